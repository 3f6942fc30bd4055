"""The layouts that most tests use."""

from skeletons import sensors

KINECT_V2 = sensors.layout("kinect-v2", released=True)
KINECT_V1 = sensors.layout("kinect-v1")
