package client

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"testing"
)

// FuzzAnswers checks that a command succeeds only if the partner's answer is a success, and fails with an
// outcome otherwise.
func FuzzAnswers(f *testing.F) {
	for _, body := range []string{`{"code":0,"msg":"success","data":{"status":"RUNNING","job_status":"READY"}}`, `{"code":200}`, `{"code":6000,"message":"no"}`,
		`{"code":"0"}`, `{"code":0,"data":[]}`, `null`, `<html>`, "\xff", `{"code":1e400}`} {
		f.Add(200, []byte(body))
		f.Add(500, []byte(body))
	}
	f.Fuzz(func(t *testing.T, status int, body []byte) {
		if status < 100 || status > 999 {
			return
		}
		c := &Client{NodeID: "A", Route: func(string) (string, bool) { return "http://peer", true },
			HTTP: &http.Client{
				Transport:     fixedPeer{status, body},
				CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
			}}
		check := func(err error) {
			var e *Error
			if err != nil &&
				(!errors.As(err, &e) || e.Node != "B" || e.Outcome != NotDelivered && e.Outcome != Refused &&
					e.Outcome != Unknown || e.Error() == "") {
				t.Fatalf("no error of ours: %#v", err)
			}
		}
		err := c.Start(t.Context(), "B", "j1")
		check(err)
		if err == nil && (status >= 300 || !bytes.ContainsAny(body, "02")) {
			t.Fatalf("HTTP %d %q is taken for success", status, body)
		}
		poll, err := c.TaskPoll(t.Context(), "B", "t1", "")
		check(err)
		if err == nil && poll.Status == "" {
			t.Fatal("a poll without a state")
		}
		job, err := c.StatusAll(t.Context(), "B", "j1")
		check(err)
		if err == nil && job.State == "" {
			t.Fatal("a status without a state")
		}
	})
}

type fixedPeer struct {
	status int
	body   []byte
}

func (p fixedPeer) RoundTrip(r *http.Request) (*http.Response, error) {
	return &http.Response{
		StatusCode: p.status,
		Header:     http.Header{},
		Body:       io.NopCloser(bytes.NewReader(p.body)),
		Request:    r,
	}, nil
}
