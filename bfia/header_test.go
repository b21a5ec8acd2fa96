package bfia

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
)

func TestSetHeaders(t *testing.T) {
	h := http.Header{}
	SetHeaders(h, "nodeA", "nodeB", "job1", time.UnixMilli(1795371336998))
	want := map[string]string{
		"x-source-node-id": "nodeA",
		"x-target-node-id": "nodeB",
		"x-node-id":        "nodeA",
		"x-trace-id":       "job1",
		"x-timestamp":      "1795371336998",
		"content-type":     "application/json",
	}
	for name, value := range want {
		require.Equal(t, []string{value}, h.Values(name), name)
	}
	for _, name := range []string{"x-auth-sign", "x-mprac-token-set"} {
		require.Len(t, h.Values(name), 1, "%s is required, if empty", name)
	}
	for _, name := range []string{"x-nonce", "x-csrf-protection"} {
		require.NoError(t, uuid.Validate(h.Get(name)), name)
	}
	nonce := h.Get("x-nonce")
	SetHeaders(h, "nodeA", "nodeB", "job1", time.Now())
	require.NotEqual(t, nonce, h.Get("x-nonce"), "a nonce is used once")
	require.Len(t, h.Values("x-nonce"), 1)
}

func TestHeaderSpellings(t *testing.T) {
	for _, test := range []struct {
		name   string
		header map[string]string
		sender string
		trace  string
	}{
		{"specification", map[string]string{"x-source-node-id": "A", "x-trace-id": "t"}, "A", "t"},
		{"FATE-Flow", map[string]string{"x_node_id": "A", "x_trace_id": "t"}, "A", "t"},
		{"Kuscia", map[string]string{"X-Node-Id": "A", "X-Trace-Id": "t"}, "A", "t"},
		{"underscores of the specification's", map[string]string{"x_source_node_id": "A"}, "A", ""},
		{"ours, both", map[string]string{"x-source-node-id": "A", "x-node-id": "B"}, "A", ""},
		{"none", nil, "", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			get := func(name string) string {
				for k, v := range test.header {
					if strings.EqualFold(k, name) {
						return v
					}
				}
				return ""
			}
			require.Equal(t, test.sender, Sender(get))
			require.Equal(t, test.trace, Header(get, "x-trace-id"))
		})
	}
}
