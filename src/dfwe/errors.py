"""The one exception that speaks to the user."""


class UserError(Exception):
    """A mistake the user can mend: one sentence: what was found, what was wanted, the way out.

    `dfwe.run` prints it without a traceback and exits with code 1.
    """
