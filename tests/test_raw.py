"""Stage raw: archives arrive whole and checked or not at all; who lacks one learns what to do."""

import contextlib
import functools
import hashlib
import http.server
import os
import pickle
import shutil
import threading
import zipfile
from pathlib import Path

import pytest
import yaml
from clone import ROOT

from experiment.parameters.schema import Archives
from skeletons import formats
from stages import raw, synthetic

ACCESS = "https://example.org/request"
ARCHIVES = Archives.model_fields


class Project:
    """A project folder with the default params.yaml and one more dataset, as working directory."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.params = yaml.safe_load((ROOT / "params.yaml").read_text())
        self.params["synthetic"] |= {"actions": 2, "subjects": 2, "cameras": 1, "frames": [8, 9]}
        shutil.copytree(ROOT / "datasets", root / "datasets")

    def dataset(
        self, source: str, skeletons: list[str], like: str = "ntu60", **entry: object
    ) -> None:
        described = yaml.safe_load((ROOT / "datasets" / f"{like}.yaml").read_text())
        described["archives"] = {"skeletons": skeletons, "access": ACCESS}
        for name, value in entry.items():
            within = described["archives"] if name in ARCHIVES else described
            within[name] = value
        self.params["sources"]["mine"] = source
        (self.root / "datasets/mine.yaml").write_text(yaml.safe_dump(described))
        (self.root / "params.yaml").write_text(yaml.safe_dump(self.params))

    @property
    def brought(self) -> dict[str, Path]:
        """All that is under data/raw, by its path there."""
        folder = self.root / "data/raw"
        return {str(p.relative_to(folder)): p for p in folder.rglob("*") if p.is_file()}


@pytest.fixture
def project(tmp_path, monkeypatch) -> Project:
    (tmp_path / "project").mkdir()
    monkeypatch.chdir(tmp_path / "project")
    monkeypatch.delenv("DVC_ROOT", raising=False)
    return Project(tmp_path / "project")


@pytest.fixture
def owned(tmp_path) -> Path:
    """A folder with the user's archives."""
    folder = tmp_path / "owned"
    (folder / "deep/clips/more").mkdir(parents=True)
    for name in ("a.zip", "deep/b.zip"):
        with zipfile.ZipFile(folder / name, "w") as file:
            file.writestr("inner/1.skeleton", name)
    (folder / "deep/clips/1.skeleton").write_bytes(b"clip 1")
    (folder / "deep/clips/more/2.skeleton").write_bytes(b"clip 2")
    return folder


def test_synthetic_archives_bear_the_names_of_the_real_ones(project):
    project.dataset("synthetic", ["x.zip", "y.zip/inner"])
    synthetic.main("mine")
    assert raw.main("mine").startswith("data/raw/mine: ")
    assert sorted(project.brought) == ["mine/x.zip", "mine/y.zip"]

    project.dataset("synthetic", ["x.ZIP/inner", "y.zipped", "z"])
    synthetic.main("mine")
    raw.main("mine")
    assert zipfile.is_zipfile(project.brought.pop("mine/x.ZIP"))
    assert {Path(name).parts[1] for name in project.brought} - {"x.ZIP"} == {"y.zipped", "z"}
    assert {Path(name).suffix for name in project.brought} - {".ZIP"} == {".skeleton"}

    lists = {"labels": ["l.zip"], "splits": ["s.txt"], "protocols": {"xsub": {"split": "s.txt"}}}
    project.dataset("synthetic", ["v.zip"], "pku2", **lists)
    synthetic.main("mine")
    raw.main("mine")
    assert sorted(project.brought) == ["mine/l.zip", "mine/s.txt", "mine/v.zip"]


def test_where_archives_are_real_a_line_says_so_and_no_synthetic_parameter_changes_it(
    project, owned
):
    def made() -> list[tuple[str, str]]:
        synthetic.main("mine")
        return [(path.name, path.read_text()) for path in Path("data/synthetic/mine").iterdir()]

    project.dataset(str(owned), ["a.zip"])
    first = made()
    assert first == [("none.txt", "This dataset's archives are real.\n")]
    project.params["synthetic"] |= {"seed": 5, "actions": 3}
    project.dataset(str(owned), ["a.zip"])
    assert made() == first
    raw.main("mine")
    assert list(project.brought) == ["mine/a.zip"]


def test_synthetic_numbers_and_formats_without_sense_are_refused(project):
    project.dataset("synthetic", ["x.zip"], format="bvh")
    with pytest.raises(ValueError, match=f"format is 'bvh', allowed: one of {formats.NAMES[0]}, "):
        raw.main("mine")
    lists = {"labels": ["l.zip"], "splits": ["s.txt"], "protocols": {"xsub": {"split": "s.txt"}}}
    project.params["synthetic"]["cameras"] = 4
    project.dataset("synthetic", ["v.zip"], "pku2", **lists)
    with pytest.raises(ValueError, match="cameras must be at most 3 for PKU-MMD, not 4"):
        synthetic.main("mine")
    assert not project.brought


def test_a_users_archives_are_linked_not_stored_twice(project, owned):
    project.dataset(str(owned), ["a.zip", "deep/b.zip/inner", "deep/b.zip/other", "deep/clips"])
    raw.main("mine")
    names = ["a.zip", "deep/b.zip", "deep/clips/1.skeleton", "deep/clips/more/2.skeleton"]
    assert sorted(project.brought) == [f"mine/{name}" for name in names]
    for name in names:
        assert os.path.samefile(project.brought[f"mine/{name}"], owned / name)


def test_a_link_to_an_archive_brings_the_archive(project, owned):
    (owned / "link.zip").symlink_to("a.zip")
    project.dataset(str(owned), ["link.zip"])
    raw.main("mine")
    assert not project.brought["mine/link.zip"].is_symlink()
    assert project.brought["mine/link.zip"].read_bytes() == (owned / "a.zip").read_bytes()


def test_archives_are_copied_where_links_cannot_be(project, owned, monkeypatch):
    def refuse(*_: object) -> None:
        raise OSError("another device")

    monkeypatch.setattr(os, "link", refuse)
    project.dataset(str(owned), ["a.zip", "deep/clips"])
    raw.main("mine")
    assert project.brought["mine/a.zip"].read_bytes() == (owned / "a.zip").read_bytes()
    assert not os.path.samefile(project.brought["mine/a.zip"], owned / "a.zip")
    assert project.brought["mine/deep/clips/more/2.skeleton"].read_bytes() == b"clip 2"


def test_a_relative_source_is_in_the_project_that_dvc_copied(project, owned, monkeypatch):
    project.dataset("owned", ["a.zip"])
    with pytest.raises(ValueError, match=r"owned lacks a\.zip"):
        raw.main("mine")
    monkeypatch.setenv("DVC_ROOT", str(owned.parent))
    raw.main("mine")
    assert os.path.samefile(project.brought["mine/a.zip"], owned / "a.zip")


def test_a_missing_archive_is_said_with_what_to_do_and_changes_nothing(project, owned):
    project.dataset(str(owned), ["a.zip"])
    raw.main("mine")
    project.dataset(str(owned), ["deep/b.zip", "c.zip/inner", "d"])
    with pytest.raises(ValueError, match="lacks") as error:
        raw.main("mine")
    message = str(error.value)
    assert "\n" not in message
    assert f"{owned} lacks c.zip, d: get it through {ACCESS}" in message
    assert "`sources` in params.yaml" in message
    assert list(project.brought) == ["mine/a.zip"]


def test_md5_is_checked(project, owned):
    right = hashlib.md5((owned / "deep/b.zip").read_bytes()).hexdigest()
    project.dataset(str(owned), ["deep/b.zip/inner"], md5={"deep/b.zip": right})
    raw.main("mine")
    assert list(project.brought) == ["mine/deep/b.zip"]

    wrong = "0" * 32
    project.dataset(str(owned), ["a.zip"], md5={"a.zip": wrong})
    with pytest.raises(ValueError, match=rf"a.zip: its md5 is \w{{32}}, not the stated {wrong}"):
        raw.main("mine")
    assert list(project.brought) == ["mine/deep/b.zip"]
    assert zipfile.is_zipfile(owned / "a.zip")


@pytest.mark.parametrize(
    ("archives", "md5", "message"),
    [
        (["a.zip"], {"b.zip": "0"}, "archives.md5 is 'b.zip', allowed: one of a.zip"),
        (["deep/clips"], {"deep/clips": "0"}, "archives.md5 has clips, a folder"),
        (["../owned/a.zip"], {}, "must be a path inside the source"),
        (["/a.zip"], {}, "must be a path inside the source"),
    ],
)
def test_a_description_without_sense_is_refused(project, owned, archives, md5, message):
    project.dataset(str(owned), archives, md5=md5)
    with pytest.raises(ValueError, match=message):
        raw.main("mine")
    assert not project.brought


def test_what_is_not_an_archive_is_refused_at_once_and_changes_nothing(project, owned):
    project.dataset(str(owned), ["a.zip"])
    raw.main("mine")
    (owned / "clips.pkl").write_bytes(pickle.dumps([1]))
    project.dataset(str(owned), ["clips.pkl"])
    with pytest.raises(ValueError, match=r"clips.pkl: a pickle of Python; an archive is a zip"):
        raw.main("mine")
    assert list(project.brought) == ["mine/a.zip"]
    with pytest.raises(ValueError, match=rf"^{owned}/clips.pkl: .* `format: pyskl` reads"):
        raw.main("mine")
    project.dataset(str(owned), ["*.zip"])
    with pytest.raises(ValueError, match="patterns are not expanded: list the files"):
        raw.main("mine")


def test_the_mode_of_a_read_only_folder_is_not_brought(project, owned):
    """Or the next run could not remove what this one brought."""
    for folder in (owned / "deep/clips/more", owned / "deep/clips"):
        folder.chmod(0o555)
    project.dataset(str(owned), ["deep/clips"])
    for _ in range(2):
        raw.main("mine")
    for path in (project.root / "data/raw").rglob("*"):
        assert path.is_file() or path.stat().st_mode & 0o200
    assert not list((project.root / "data/raw").glob(".*"))


def test_names_that_only_contain_zip_are_names_of_folders(project, owned):
    for name in ("nturgb.zipped", "my.zip_files/part"):
        (owned / name).mkdir(parents=True)
        (owned / name / "1.skeleton").write_bytes(b"clip")
    (owned / "a.zip").rename(owned / "upper.ZIP")
    project.dataset(str(owned), ["nturgb.zipped", "my.zip_files/part", "upper.ZIP/inner"])
    raw.main("mine")
    assert sorted(project.brought) == [
        *("mine/my.zip_files/part/1.skeleton", "mine/nturgb.zipped/1.skeleton", "mine/upper.ZIP")
    ]


def test_a_dataset_without_a_source_is_refused(project, owned):
    project.dataset(str(owned), ["a.zip"])
    with pytest.raises(ValueError, match="there is no 'other' in: mine, ntu60, pku2"):
        raw.main("other")


@contextlib.contextmanager
def served(folder: Path):
    """The address of a folder on the web."""
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=folder)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_archives_come_from_a_url(project, owned):
    with served(owned) as url:
        project.dataset(url + "/deep/", ["b.zip/inner"])
        raw.main("mine")
        assert project.brought["mine/b.zip"].read_bytes() == (owned / "deep/b.zip").read_bytes()

        project.dataset(url, ["a.zip", "c.zip"])
        with pytest.raises(
            ValueError, match=f"could not get {url}/c.zip .* get it through {ACCESS}"
        ):
            raw.main("mine")
        assert list(project.brought) == ["mine/b.zip"]


def test_a_dataset_without_an_address_for_access_says_so(project, owned):
    project.dataset(str(owned), ["c.zip"], access=None)
    with pytest.raises(ValueError, match=r"lacks c\.zip: ask its owner for it and put it there"):
        raw.main("mine")
