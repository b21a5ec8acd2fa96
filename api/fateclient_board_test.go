package api

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestFATEBoardRequests sends what FATE-Board 2.1 sent while its pages of a job were open, with the ids of a
// job of this test. Each request gets an answer that FATE-Board can show.
func TestFATEBoardRequests(t *testing.T) {
	p, jobID := fateJob(t)
	text, err := os.ReadFile(filepath.Join("..", "testdata", "fate", "board-2.1.0.json"))
	require.NoError(t, err)
	var requests []struct{ Method, Path, Body string }
	require.NoError(t, json.Unmarshal(text, &requests))
	require.Greater(t, len(requests), 20)
	named := strings.NewReplacer("JOB", jobID, "PARTY", guest)
	for _, r := range requests {
		c := get(named.Replace(r.Path))
		if r.Method == http.MethodPost {
			c = post(c.path, named.Replace(r.Body))
		}
		answer := p.good(c)
		if strings.Contains(r.Path, "/list/query") {
			require.Contains(t, string(answer.Data), `"data":[`, r.Path) // it fails for null
		}
	}
}
