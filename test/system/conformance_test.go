package system

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"hutong/bfia"
	"hutong/bfia/conformance"
)

// TestConformance runs the conformance tester against a party: nothing fails, deviates or is skipped. Through
// a proxy that changes the party's answers, the tester reports failures or deviations.
func TestConformance(t *testing.T) {
	t.Parallel()
	pair := newPartyPair(t, openly) // the tester has no certificate
	pair.guest.start()
	pair.guest.register(sleepProvider(t), bfia.DeviceProcess)
	quick := map[string]any{"seconds": "0.05"}
	target := conformance.Target{URL: pair.guest.url, Node: guestNode,
		Job: sleepJob(t, 2, map[string]any{"s1": quick, "s2": quick}, nil)}
	run := func(url string) (results []conformance.Result, counts map[conformance.Outcome]int) {
		target.URL = url
		results, err := conformance.Run(t.Context(), target, nil)
		require.NoError(t, err)
		counts = map[conformance.Outcome]int{}
		for _, r := range results {
			counts[r.Outcome]++
		}
		return results, counts
	}
	results, _ := run(pair.guest.url)
	for _, r := range results {
		if r.Outcome != conformance.Pass {
			t.Errorf("%s: %s (%s): %s: %s", r.Endpoint, r.Aspect, r.Section, r.Outcome, r.Observed)
		}
	}
	if !conformance.Conforms(results) {
		pair.guest.logFailures()
	}
	t.Log(conformance.Summary(results))
	require.True(t, conformance.Conforms(results))

	for _, mutation := range []struct {
		name, from, to string
		fail           bool
	}{
		{"unknown state", `"status":"SUCCESS"`, `"status":"DONE"`, true},
		{"invalid requests are accepted", `"code":4`, `"code":0,"was":4`, true},
		{"no message", `"msg":`, `"text":`, true},
		{"FATE-Flow's field for the message", `"msg":`, `"message":`, false},
		{"FATE-Flow's field for the job list", `"data":{"job_list"`, `"was":{"job_list"`, false},
		{"Kuscia's code", `"code":0`, `"code":200`, false},
	} {
		t.Run(mutation.name, func(t *testing.T) {
			results, counts := run(startMutatingProxy(t, pair.guest.url, mutation.from, mutation.to))
			if !mutation.fail && !conformance.Conforms(results) {
				pair.guest.logFailures()
			}
			require.Equal(t, !mutation.fail, conformance.Conforms(results), "%v", results)
			if !mutation.fail {
				require.Positive(t, counts[conformance.Deviate])
			}
		})
	}
	// Without a job, only the endpoints that need none are tested.
	target.Job = nil
	results, counts := run(pair.guest.url)
	require.True(t, conformance.Conforms(results))
	require.Positive(t, counts[conformance.Pass])
	require.Positive(t, counts[conformance.Skip])
}

// startMutatingProxy starts a proxy that replaces a text in a party's answers, and returns its URL.
func startMutatingProxy(t *testing.T, target, from, to string) string {
	t.Helper()
	u, err := url.Parse(target)
	require.NoError(t, err)
	proxy := httputil.NewSingleHostReverseProxy(u)
	proxy.ModifyResponse = func(r *http.Response) error {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return err
		}
		body = bytes.ReplaceAll(body, []byte(from), []byte(to))
		r.Body = io.NopCloser(bytes.NewReader(body))
		r.ContentLength = int64(len(body))
		r.Header.Set("Content-Length", strconv.Itoa(len(body)))
		return nil
	}
	srv := httptest.NewServer(proxy)
	t.Cleanup(srv.Close)
	return srv.URL
}
