"""The two ways in which a task fails."""

# EX_TEMPFAIL of sysexits.h: the cause is outside of the task, so that another attempt may succeed.
EXIT_TEMPORARY = 75


class TaskError(Exception):
    """A failure that another attempt would meet again. Its text names what is wrong, and holds no row."""

    exit_code = 1


class TemporaryError(TaskError):
    """A failure that another attempt may not meet, such as a transport that restarts."""

    exit_code = EXIT_TEMPORARY
