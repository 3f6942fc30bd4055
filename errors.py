"""The one kind of error that a user can mend; any other is a fault of the program."""


class UserError(ValueError):
    """A mistake in the data, the parameters or the files. The message is one line for a user: which
    file, which place in it, what to do. The command line prints it without a traceback.
    """
