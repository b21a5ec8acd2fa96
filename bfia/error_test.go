package bfia

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestCodes(t *testing.T) {
	for code, status := range map[Code]int{
		CodeOK:          http.StatusOK,
		CodeBadRequest:  http.StatusBadRequest,
		CodeForbidden:   http.StatusForbidden,
		CodeNotFound:    http.StatusNotFound,
		CodeMethod:      http.StatusMethodNotAllowed,
		CodeTimeout:     http.StatusRequestTimeout,
		CodeConflict:    http.StatusConflict,
		CodeTooLarge:    http.StatusRequestEntityTooLarge,
		CodeRefused:     http.StatusUnprocessableEntity,
		CodeInternal:    http.StatusInternalServerError,
		CodeUnavailable: http.StatusServiceUnavailable,
		Code(6000):      http.StatusInternalServerError,
	} {
		require.Equal(t, status, code.HTTPStatus(), "%d", code)
	}
}

func TestErrors(t *testing.T) {
	bad := Errorf(CodeBadRequest, "dag: is %s", "wrong")
	wrapped := Wrap(CodeUnavailable, io.ErrUnexpectedEOF, "the database does not answer")
	for _, test := range []struct {
		err     error
		code    Code
		message string // for the other side
		text    string // for our log
	}{
		{bad, CodeBadRequest, "dag: is wrong", "dag: is wrong"},
		{wrapped, CodeUnavailable, "the database does not answer",
			"the database does not answer: unexpected EOF"},
		{fmt.Errorf("job 1: %w", wrapped), CodeUnavailable, "the database does not answer",
			"job 1: the database does not answer: unexpected EOF"},
		{errors.New("secret detail"), CodeInternal, "internal error; see this party's log for the details",
			"secret detail"},
	} {
		require.Equal(t, test.code, CodeOf(test.err))
		require.Equal(t, test.message, MessageOf(test.err))
		require.EqualError(t, test.err, test.text)
	}
	require.Equal(t, CodeOK, CodeOf(nil))
	require.ErrorIs(t, wrapped, io.ErrUnexpectedEOF)
}

func TestEnvelope(t *testing.T) {
	for _, test := range []struct {
		body string
		ok   bool
		text string
	}{
		{string(vector(t, "job_create_all.response.json")), true, "success"},
		{string(vector(t, "provider_register.response.json")), true, "update success"},
		{`{"code":200,"msg":"ok"}`, true, "ok"},
		{`{"code":6000,"message":"No found task"}`, false, "No found task"},
		{`{"code":1,"msg":"a","message":"b"}`, false, "a"},
	} {
		var e Envelope
		require.NoError(t, json.Unmarshal([]byte(test.body), &e))
		require.Equal(t, test.ok, e.OK(), test.body)
		require.Equal(t, test.text, e.Text(), test.body)
	}
}
