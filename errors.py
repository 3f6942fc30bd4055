"""The one kind of error that a user can fix; any other is a fault of the program."""

import re

_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


def printable(text: str) -> str:
    """The text on one line, with control characters and halves of surrogate pairs as escapes."""
    return _UNPRINTABLE.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


class UserError(ValueError):
    """A mistake in the data, the parameters or the files. Each argument is one line for a user,
    whatever names are in it: which file, which place in it, what to do. The command line prints
    them without a traceback.
    """

    def __str__(self) -> str:
        return "\n".join(printable(str(line)) for line in self.args)
