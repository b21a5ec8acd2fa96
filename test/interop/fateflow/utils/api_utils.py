"""BFIA's envelope: code and msg, data where there is some, and what else an answer has beside them."""
from flask import jsonify

from fate_flow.utils.api_utils import API

from .entity.code import ReturnCode


class BfiaAPI(API):
    class Output:
        @staticmethod
        def json(code=ReturnCode.SUCCESS, msg="success", data=None, **beside):
            envelope = {"code": code, "msg": msg, **({} if data is None else {"data": data}), **beside}
            return jsonify(envelope)
