package component

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestControl(t *testing.T) {
	c, err := Task{TaskID: "t1", Self: Party{Role: "host"}}.ServeControl()
	require.NoError(t, err)
	defer c.Close()
	ask := func(method, path, body string) (int, string) {
		w := httptest.NewRecorder()
		c.ServeHTTP(w, httptest.NewRequest(method, path, strings.NewReader(body)))
		answer, err := io.ReadAll(w.Body)
		require.NoError(t, err)
		return w.Code, string(answer)
	}

	const path = "/v1/platform/algorithm/task/query"
	for _, status := range []string{StatusRunning, StatusSuccess, StatusFailed} {
		c.SetStatus(status)
		code, answer := ask(http.MethodPost, path, `{"task_id": "t1"}`)
		require.Equal(t, http.StatusOK, code)
		require.JSONEq(
			t,
			`{"code": 0, "msg": "success", "status": "`+status+`", "role": "host",
				"data": {"status": "`+status+`", "role": "host"}}`,
			answer,
		)
	}

	for _, bad := range []struct {
		method, path, body string
		code               int
	}{
		{http.MethodPost, path, `{"task_id": "t2"}`, 404},
		{http.MethodPost, path, `{`, 400},
		{http.MethodPost, path, `{"task_id": "` + strings.Repeat("x", maxQuery) + `"}`, 400},
		{http.MethodGet, path, "", 405},
		{http.MethodPost, "/", `{"task_id": "t1"}`, 404},
	} {
		code, answer := ask(bad.method, bad.path, bad.body)
		require.Equal(t, bad.code, code)
		require.NotContains(t, answer, `"code":0`)
		require.NotContains(t, answer, "FAILED")
	}

	for _, port := range []string{"x", "70000", "-1"} {
		_, err := Task{ControlPort: port}.ServeControl()
		require.ErrorContains(t, err, "system.control_port")
	}
}

func FuzzControl(f *testing.F) {
	f.Add("POST", "/v1/platform/algorithm/task/query", `{"task_id": "t1"}`)
	f.Add("POST", "/v1/platform/algorithm/task/query", `{"task_id": 1}`)
	f.Fuzz(func(t *testing.T, method, path, body string) {
		c, err := Task{TaskID: "t1", Self: Party{Role: "host"}}.ServeControl()
		require.NoError(t, err)
		w := httptest.NewRecorder()
		c.ServeHTTP(
			w,
			&http.Request{
				Method: method,
				URL:    &url.URL{Path: path},
				Body:   io.NopCloser(strings.NewReader(body)),
			},
		)
		var a controlResponse
		require.NoError(t, json.Unmarshal(w.Body.Bytes(), &a))
		require.Equal(t, a.Code == 0, w.Code == http.StatusOK)
	})
}
