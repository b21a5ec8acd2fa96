"""The codes of the BFIA envelope that the adapter itself gives."""


class ReturnCode:
    SUCCESS, FAILED = 0, 1
