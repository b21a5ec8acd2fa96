package main

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"hutong/bfia"
)

func TestOutputsAndResults(t *testing.T) {
	documents := map[string]string{
		"loss": `{"metric":"loss","data":[{"tree":1,"loss":0.5},` +
			`{"tree":2,"loss":0.25},{"tree":3,"loss":0.2}]}`,
		"auc": `{"metric":"auc","value":0.987654}`,
		"ks": `{"metric":"ks","value":0.9,"threshold":0.5,"curve":[{"threshold":1,"tpr":0,"fpr":0},` +
			`{"threshold":0.5,"tpr":0.95,"fpr":0.05},{"threshold":0,"tpr":1,"fpr":1}]}`,
		"note": `{"note":"the guest has this report"}`,
		"odd":  `[1,2`,
	}
	var outputs []bfia.Output
	for _, name := range []string{"loss", "auc", "ks", "note", "odd"} {
		outputs = append(
			outputs,
			bfia.Output{
				TaskName:  "boost",
				Role:      "guest.0",
				Type:      "report",
				Key:       "report0",
				Output:    "train-" + name,
				Namespace: reports,
				Name:      name,
				Bytes:     2048,
			},
		)
	}
	outputs = append(
		outputs,
		bfia.Output{
			TaskName:  "boost",
			Role:      "guest.0",
			Type:      "model",
			Key:       "model0",
			Namespace: reports,
			Name:      "m",
		},
	)
	p := newParty(t, map[string]http.HandlerFunc{
		"GET " + bfia.PathJobOutputs: data(map[string]any{"outputs": outputs}),
		"GET " + bfia.PathDataDownload: func(w http.ResponseWriter, r *http.Request) {
			if document := documents[r.URL.Query().Get("name")]; document != "" &&
				r.URL.Query().Get("namespace") == reports {
				respond(document)(w, r)
				return
			}
			refuse(w, 404, bfia.CodeNotFound, "no such dataset")
		},
	})
	status, stdout, _ := p.run(t, "job", "outputs", "j")
	assert.Equal(t, exitOK, status)
	assert.Contains(t, stdout, "boost  guest.0  report  train-loss  2.0 KiB  r          loss")
	status, stdout, stderr := p.run(t, "job", "outputs", "j", "--show")
	assert.Equal(t, exitOK, status, stderr)
	golden(t, "results.txt", stdout)

	none := newParty(
		t,
		map[string]http.HandlerFunc{
			"GET " + bfia.PathJobOutputs: data(map[string]any{"outputs": outputs[5:]}),
		},
	)
	status, stdout, _ = none.run(t, "job", "outputs", "j", "--show")
	assert.Equal(t, exitOK, status)
	assert.Equal(t, "This party has no reports with numbers. See the outputs without --show.\n", stdout)
}

func FuzzDrawReport(f *testing.F) {
	f.Add([]byte(`{"metric":"loss","data":[{"tree":1,"loss":0.5},` +
		`{"tree":2,"loss":1e308}]}`))
	f.Add([]byte(`{"metric":"ks","value":-1e308,"curve":[1,2,-1e308,1e308]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		if strings.ContainsAny(drawReport(b), "\x1b\r\x00") {
			t.Fatal("a report controls the terminal")
		}
	})
}

// TestOutputByName downloads an output by the names of the job's document.
func TestOutputByName(t *testing.T) {
	outputs := []bfia.Output{
		{TaskName: "a", Role: "guest.0", Type: "dataset", Output: "rows", Key: "train_data", Namespace: "n1",
			Name: "t1"},
		{TaskName: "a", Role: "host.0", Type: "dataset", Output: "rows", Key: "train_data", Namespace: "n2",
			Name: "t1"},
		{TaskName: "b", Role: "guest.0", Type: "model", Output: "model", Namespace: "n3", Name: "t2"},
	}
	p := newParty(t, map[string]http.HandlerFunc{
		"GET " + bfia.PathJobOutputs:        data(map[string]any{"outputs": outputs}),
		"GET " + bfia.PathPlatformStatusAll: data(twoTasks()),
		"GET " + bfia.PathDataDownload: func(w http.ResponseWriter, r *http.Request) {
			respond("rows of "+r.URL.Query().Get("namespace"))(w, r)
		},
	})
	path := filepath.Join(t.TempDir(), "out.csv")
	status, _, stderr := p.run(t, "job", "outputs", "j", "--task", "b", "--output", "model", "-o", path)
	require.Equal(t, exitOK, status, stderr)
	got, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, "rows of n3", string(got))
	_, stdout, _ := p.run(t, "job", "outputs", "j", "--task", "a", "--role", "host", "--output", "train_data")
	require.Equal(t, "rows of n2", stdout)
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"--task", "a", "--output", "rows"},
			"several outputs match; choose one with --task and --role: " +
				"rows of task a at guest.0, rows of task a at host.0"},
		{[]string{"--output", "rowz"},
			"no output of job j at this party matches; it has rows of task a at guest.0"},
		{[]string{"--task", "intersect_rsa_2", "--output", "x"}, "did you mean intersect_rsa_1?"},
	} {
		status, _, stderr := p.run(t, append([]string{"job", "outputs", "j"}, c.args...)...)
		require.Equal(t, exitFailed, status)
		require.Contains(t, stderr, c.want)
	}
	_, stdout, _ = p.run(t, "job", "outputs", "j", "--task", "b", "--json")
	require.NotContains(t, stdout, "n1")
}
