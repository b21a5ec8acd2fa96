"""BFIA's envelope: code and msg, optional data, and the other fields of an answer."""
from flask import jsonify

from fate_flow.utils.api_utils import API

from .entity.code import ReturnCode


class BfiaAPI(API):
    class Output:
        @staticmethod
        def json(code=ReturnCode.SUCCESS, msg="success", data=None, **fields):
            envelope = {"code": code, "msg": msg, **({} if data is None else {"data": data}), **fields}
            return jsonify(envelope)
