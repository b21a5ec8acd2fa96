package main

import (
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"hutong/bfia"
)

const trainingDocument = `{"job_id":"j1","dag":{"version":"2","components":[{"name":"boost",
	"componentName":"Boost","provider":"p","version":"1","output":[{"type":"model","key":"m"}]}]},
	"config":{"version":"2","initiator":{"role":"guest","node_id":"A"},"role":{"guest":["A"],"host":["B"]},
	"task_params":{"guest":{"0":{"boost":{"dataset_id":"n#a"}}},
	"host":{"0":{"boost":{"dataset_id":"n#b"}}}}}}`

// modelParty returns a party with the model of job j1 and two models of job j2.
func modelParty(t *testing.T) *stubParty {
	view := func(job, output string) bfia.ModelView {
		return bfia.ModelView{Model: job + ":boost." + output, JobID: job, Task: "boost", Output: output,
			Role: "host.0", Component: "Boost", Provider: "p:1", Images: []string{},
			Datasets: []string{"n#b@1"}, Bytes: 2048, CreatedAt: noon}
	}
	describe := func(name, inputs string) json.RawMessage {
		return json.RawMessage(`{"componentName":"` + name + `","title":"","provider":"p","version":"1",
			"roleList":["guest","host"],"storageEngine":[],"inputParam":[],"result":[],"inputData":[` + inputs +
			`{"name":"data","category":"dataset"}],"outputData":[{"name":"scores","category":"dataset"}]}`)
	}
	return newParty(t, map[string]http.HandlerFunc{
		"GET " + bfia.PathModelQuery: func(w http.ResponseWriter, r *http.Request) {
			views := []bfia.ModelView{view("j1", "m")}
			switch {
			case r.URL.Query().Get("model") != "":
				views[0].Document = json.RawMessage(trainingDocument)
			case r.URL.Query().Get("job_id") == "j2":
				views = []bfia.ModelView{view("j2", "a"), view("j2", "b")}
			case r.URL.Query().Get("job_id") == "j3":
				views = nil
			}
			data(views)(w, r)
		},
		"GET " + bfia.PathProviderQuery: data([]any{map[string]any{"name": "p", "version": "1",
			"device": "docker", "components_description": map[string]any{"Boost": describe("Boost", ""),
				"Boost_predict": describe("Boost_predict", `{"name":"model","category":"model"},`)}}}),
		"POST " + bfia.PathModelKeep:   data(map[string]any{}),
		"POST " + bfia.PathModelDelete: data(map[string]any{}),
		"GET " + bfia.PathModelExport:  respond("archive"),
		"POST " + bfia.PathModelImport: func(w http.ResponseWriter, r *http.Request) {
			body, _ := io.ReadAll(r.Body)
			data(bfia.ModelImported{Model: string(body), SignedBy: "B", Key: r.URL.RawQuery})(w, r)
		},
	})
}

func TestModelCommands(t *testing.T) {
	p := modelParty(t)
	_, stdout, _ := p.run(t, "model", "list", "--job", "j2")
	require.Regexp(t, `(?m)^j2:boost\.b  host\.0  Boost +p:1 +2\.0 KiB  no `, stdout)
	for _, verb := range []string{"keep", "delete"} {
		status, stdout, stderr := p.run(t, "model", verb, "j1")
		require.Equal(t, exitOK, status, stderr)
		require.Contains(t, stdout, "model j1:boost.m ")
	}
	status, _, stderr := p.run(t, "model", "keep", "j2")
	require.Equal(t, exitFailed, status)
	require.Contains(t, stderr, "job j2 has several models; name one of them: j2:boost.a, j2:boost.b")
	_, _, stderr = p.run(t, "model", "keep", "j3")
	require.Contains(t, stderr, "job j3 has no model at this party")
	status, _, _ = p.run(t, "model", "keep", "j1:")
	require.Equal(t, exitUsage, status)

	file := filepath.Join(t.TempDir(), "model.zip")
	status, _, stderr = p.run(t, "model", "export", "j1:boost", "-o", file)
	require.Equal(t, exitOK, status, stderr)
	content, err := os.ReadFile(file)
	require.NoError(t, err)
	require.Equal(t, "archive", string(content))
	_, stdout, _ = p.run(t, "model", "import", file)
	require.Equal(t, "model archive imported, without a signature\n", stdout)
	_, stdout, _ = p.run(t, "model", "import", file, "--unsigned")
	require.Equal(t, "model archive imported, signed by B with the key unsigned=true\n", stdout)
	key := strings.Repeat("AB:", 31) + "AB"
	_, stdout, _ = p.run(t, "model", "import", file, "--signer", key)
	require.Contains(t, stdout, "with the key signer="+strings.Repeat("ab", 32))
	for want, flags := range map[string][]string{
		"--signer: \"AB\" is not the SHA-256 of a public key": {"--signer", "AB"},
		"signer unsigned": {"--signer", key, "--unsigned"},
	} {
		status, _, stderr = p.run(t, append([]string{"model", "import", file}, flags...)...)
		require.Equal(t, exitUsage, status)
		require.Contains(t, stderr, want)
	}
}

func TestJobPredict(t *testing.T) {
	p := modelParty(t)
	status, stdout, stderr := p.run(t, "job", "predict", "--model", "j1", "--data", "A=n#c", "--data",
		"host.0=n#d", "--print")
	require.Equal(t, exitOK, status, stderr)
	require.Contains(t, stderr, "boost: Boost_predict applies model j1:boost.m")
	var document map[string]json.RawMessage
	require.NoError(t, json.Unmarshal([]byte(stdout), &document))
	require.JSONEq(t, `{"version":"2","initiator":{"role":"host","node_id":"B"},
		"role":{"guest":["A"],"host":["B"]},"job_params":{},"task_params":{
		"common":{"boost":{"model_id":"j1:boost.m"}},
		"guest":{"0":{"boost":{"dataset_id":"n#c"}}},"host":{"0":{"boost":{"dataset_id":"n#d"}}}}}`, string(document["config"]))

	for want, args := range map[string][]string{
		"--model is missing":      {"--data", "A=n#c"},
		`--data: "n#c" is not of`: {"--model", "j1", "--data", "n#c"},
	} {
		status, _, stderr := p.run(t, append([]string{"job", "predict"}, args...)...)
		require.Equal(t, exitUsage, status)
		require.Contains(t, stderr, want)
	}
	status, _, stderr = p.run(t, "job", "predict", "--model", "j1", "--data", "A=n#c")
	require.Equal(t, exitFailed, status)
	require.Contains(t, stderr, "data: no dataset is given for host.0 (B, which trained with n#b)")
	status, _, stderr = p.run(t, "job", "predict", "--model", "j1", "--component", "Other", "--data", "A=n#c")
	require.Equal(t, exitFailed, status)
	require.Contains(t, stderr, `provider p:1 has no component "Other" at this party`)
}
