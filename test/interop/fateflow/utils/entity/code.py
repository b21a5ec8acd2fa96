"""The codes of the BFIA envelope that the adapter itself returns."""


class ReturnCode:
    SUCCESS, FAILED = 0, 1
