package fateclient

import (
	"encoding/csv"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// commands prints all commands of flow, one a line.
const commands = `from fate_client.flow_cli.flow import flow_cli
for name, command in flow_cli.commands.items():
    for sub in getattr(command, "commands", {"": None}):
        print((name + " " + sub).strip())`

// dag returns the demo's job as a DAG of FATE: an intersection and a regression with an arbiter.
func dag(parameters map[string]any) map[string]any {
	party := func(role, node string) map[string]any {
		return map[string]any{"role": role, "party_id": []string{node}}
	}
	warehouse := func(name, role, node string) map[string]any {
		return map[string]any{"namespace": "demo", "name": name, "parties": []any{party(role, node)}}
	}
	out := func(key, kind string) map[string]any {
		return map[string]any{"output_artifact_key_alias": key, "output_artifact_type_alias": kind}
	}
	conf := map[string]any{"provider": "hutong", "version": "1.0.0"}
	return map[string]any{"schema_version": "2.2.0", "kind": "bfia", "dag": map[string]any{
		"parties": []any{party("guest", guestNode), party("host", hostNode), party("arbiter", hostNode)},
		"conf":    map[string]any{"extra": map[string]any{"flow_id": "flow"}},
		"stage":   "train",
		"tasks": map[string]any{
			"join": map[string]any{"component_ref": "Intersection", "parameters": map[string]any{"id": "id"},
				"conf": conf,
				"inputs": map[string]any{"data": map[string]any{"train_data": map[string]any{
					"data_warehouse": []any{warehouse("breast_guest", "guest", guestNode),
						warehouse("breast_host", "host", hostNode)}}}},
				"outputs": map[string]any{"data": map[string]any{"train_data": out("rows", "data")},
					"metric": map[string]any{"train-intersection": out("train-intersection", "metric")}}},
			"lr": map[string]any{"component_ref": "HeteroLR", "parameters": parameters, "conf": conf,
				"inputs": map[string]any{"data": map[string]any{"train_data": map[string]any{
					"task_output_artifact": map[string]any{"producer_task": "join",
						"output_artifact_key": "train_data"}}}},
				"outputs": map[string]any{"data": map[string]any{"train_data": out("predictions", "data")},
					"model":  map[string]any{"model": out("model", "model")},
					"metric": map[string]any{"train-loss": out("train-loss", "metric")}}},
		}}}
}

// TestFlow runs every command of flow.
func TestFlow(t *testing.T) {
	e := newEnvironment(t)
	missing := map[string]bool{}
	for command := range strings.SplitSeq(strings.TrimSpace(e.run("python", "-c", commands)), "\n") {
		missing[command] = true
	}
	require.Len(t, missing, 57)
	group := func(args []string) string { return strings.Join(args[:min(2, len(args))], " ") }
	// do runs a command whose answer has a code. Code -1: the answer has none.
	do := func(code int, message string, args ...string) answer {
		t.Helper()
		name := group(args)
		if args[0] == "init" || args[0] == "version" {
			name = args[0]
		}
		delete(missing, name)
		a := e.flow(args...)
		if code < 0 {
			require.Nil(t, a.Code, "flow %s: %s", strings.Join(args, " "), a.text)
		} else {
			require.NotNil(t, a.Code, "flow %s: %s", strings.Join(args, " "), a.text)
			require.Equal(t, code, *a.Code, "flow %s: %s", strings.Join(args, " "), a.text)
		}
		require.Contains(t, a.text, message, "flow %s", strings.Join(args, " "))
		return a
	}
	with := func(common []string, more ...string) []string { return append(slices.Clone(common), more...) }

	ip, port, _ := strings.Cut(e.guest, ":")
	do(0, "initialized successfully", "init", "--ip", ip, "--port", port)
	require.Contains(t, e.run("flow", "version"), "2.2.0")
	delete(missing, "version")

	t.Log("the party")
	do(0, guestNode, "server", "info")
	do(0, `"party_id": "`+guestNode+`"`, "site", "query")
	do(0, "create success", "provider", "register", "-c", e.path("provider.json"))
	do(0, `"provider_name": "hutong:1.0.0@process"`, "provider", "query", "--name", "hutong")

	t.Log("datasets")
	upload := func(name string, more map[string]any) string {
		meta := map[string]any{"delimiter": ",", "match_id_name": "id", "label_name": "y"}
		conf := map[string]any{"file": e.data("guest.csv"), "head": true, "partitions": 2,
			"namespace": "demo", "name": name, "extend_sid": false, "meta": meta}
		for k, v := range more {
			conf[k] = v
		}
		return e.write("upload.json", conf)
	}
	a := do(0, `"name": "breast_guest"`, "data", "upload-file", "-c", upload("breast_guest", nil))
	do(0, `"status": "success"`, "job", "query", "-j", a.JobID, "-r", "local", "-p", "0")
	do(0, "", "data", "upload-file", "-c", upload("spare", map[string]any{"head": 1}))
	do(4030, "lies outside the upload folder", "data", "upload", "-c", upload("x", nil))
	do(0, "download success", "data", "download", "-ns", "demo", "-n", "breast_guest", "-o", e.path("got"))
	want, err := os.ReadFile(e.data("guest.csv"))
	require.NoError(t, err)
	got, err := os.ReadFile(e.path("got/data/0.csv"))
	require.NoError(t, err)
	require.ElementsMatch(t, strings.Fields(string(want)), strings.Fields(string(got)), "all rows")
	do(7001, "", "data", "download", "-ns", "demo", "-n", "none", "-o", e.path("none"))
	require.NoDirExists(t, e.path("none/data"))
	a = do(0, `"header"`, "table", "query", "-ns", "demo", "-n", "spare", "-d", "true")
	var table struct {
		Count   int
		Display [][]string
	}
	e.into(a, &table)
	require.Equal(t, len(strings.Fields(string(want)))-1, table.Count)
	require.Len(t, table.Display, 100)
	do(0, "", "table", "delete", "-ns", "demo", "-n", "spare")
	do(7001, "", "table", "query", "-ns", "demo", "-n", "spare")

	t.Log("a job")
	parameters := map[string]any{"id": "id", "label": "y", "max_iter": 2}
	conf := e.write("dag.json", dag(parameters))
	job := do(0, `"model_version": "0"`, "job", "submit", "-c", conf).JobID
	row := e.await(job)
	require.Equal(t, "success", row["status"], "%v", row)
	require.Equal(t, 100.0, row["progress"])
	do(1001, "", "job", "query", "-j", "none")
	do(0, job, "job", "list", "-j", job[:10], "-s", "success")
	part := []string{"-j", job, "-r", "guest", "-p", guestNode}
	do(0, `"join"`, with([]string{"job", "dependency"}, part...)...)
	do(0, "success", with([]string{"job", "add-notes"}, append(part, "--notes", "a note")...)...)
	do(0, "a note", "job", "query", "-j", job)
	do(0, `"task_name": "lr"`, with([]string{"task", "query"}, append(part, "-tn", "lr", "-s",
		"success")...)...)
	do(2000, "", "task", "query", "-j", "none")
	do(0, `"count": 2`, with([]string{"task", "list"}, part...)...)

	t.Log("logs and outputs")
	var lines int
	e.into(do(0, "", "log", "count", "--log-type", "task_info", "-j", job), &lines)
	require.Positive(t, lines)
	do(0, `"line_num": 1`, "log", "query", "--log-type", "task_info", "-j", job, "-tn", "lr")
	do(0, "job "+job+" ends: success", "log", "query", "--log-type", "schedule_info", "-j", job)
	do(0, "download success", "job", "download-log", "-j", job, "-o", e.dir)
	require.FileExists(t, filepath.Join(e.dir, job+"_logs", "guest", guestNode, "lr", "root", "INFO"))
	lr := append(slices.Clone(part), "-tn", "lr")
	do(0, `"train-loss"`, with([]string{"output", "query-metric-key"}, lr...)...)
	do(0, `"data": [`, with([]string{"output", "query-metric"}, lr...)...)
	do(0, `"model"`, with([]string{"output", "query-model"}, lr...)...)
	do(0, "download success", with([]string{"output", "download-model"}, append(lr, "-o", e.dir)...)...)
	name := strings.Join([]string{job, "guest", guestNode, "lr"}, "_")
	require.FileExists(t, filepath.Join(e.dir, "output_model_"+name, "model.json"))
	do(-1, `"namespace"`, with([]string{"output", "query-data-table"}, lr...)...)
	do(-1, `"total": `, with([]string{"output", "display-data"}, lr...)...)
	do(0, "download success", with([]string{"output", "download-data"}, append(lr, "-o", e.dir)...)...)
	file, err := os.Open(filepath.Join(e.dir, "output_data_"+name, "train_data", "0.csv"))
	require.NoError(t, err)
	rows, err := csv.NewReader(file).ReadAll()
	require.NoError(t, err)
	require.Greater(t, len(rows), 100)
	do(2000, "", with([]string{"output", "query-metric"}, append(part, "-tn", "none")...)...)

	t.Log("what fails says why")
	parameters["label"] = "no such column"
	failing := do(0, "", "job", "submit", "-c", e.write("dag.json", dag(parameters))).JobID
	row = e.await(failing)
	require.Equal(t, "failed", row["status"], "FATE-Flow calls it a success")
	require.Contains(t, row["description"], "lr")
	do(0, "no such column", "task", "query", "-j", failing, "-tn", "lr", "-s", "failed")
	again := do(0, "", "job", "rerun", "-j", failing).JobID
	require.NotEqual(t, failing, again)
	require.Equal(t, "failed", e.await(again)["status"])
	do(1001, "", "job", "rerun", "-j", "none")
	stopped := do(0, "", "job", "submit", "-c", conf).JobID
	do(0, "success", "job", "stop", "-j", stopped)
	e.await(stopped)
	do(1001, "", "job", "stop", "-j", "none")
	do(0, "success", "job", "clean", "-j", again)
	do(1001, "", "job", "query", "-j", again)
	do(0, "success", "job", "clean-queue")
	do(1000, "hutong job probe", "test", "toy", "-gid", guestNode, "-hid", hostNode)

	t.Log("what has no meaning here")
	transformer := e.write("transformer.json", map[string]any{"namespace": "n", "name": "d",
		"data_warehouse": map[string]any{"namespace": "demo", "name": "breast_guest"}})
	resource := e.write("resource.json", map[string]any{"party_id": hostNode, "component": "lr"})
	model := []string{"-mid", "m", "-mv", "0", "-r", "guest", "-p", guestNode}
	for _, args := range [][]string{
		{"data", "transformer", "-c", transformer},
		{"data", "download-component", "-ns", "n", "-n", "d", "-o", e.dir},
		{"table", "bind", "-ns", "n", "-n", "d", "-o", e.dir},
		with([]string{"output", "delete-metric"}, lr...), with([]string{"output", "delete-model"}, lr...),
		with([]string{"model", "export"}, append(model, "-o", e.dir)...),
		{"model", "import", "-mid", "m", "-mv", "0", "-i", transformer},
		with([]string{"model", "delete"}, model...),
		{"permission", "grant", "--app-id", "a", "-r", "client"}, {"permission", "delete", "--app-id", "a",
			"-r", "client"},
		{"permission", "query", "--app-id", "a"}, {"permission", "grant-resource", "-c", resource},
		{"permission", "delete-resource", "-c", resource}, {"permission", "query-resource", "-p", hostNode},
		{"client", "create-client", "--app-name", "a"}, {"client", "delete-client", "--app-id", "a"},
		{"client", "query-client"}, {"client", "create-site", "-p", hostNode},
		{"client", "delete-site", "-p", hostNode}, {"client", "query-site", "-p", hostNode},
		{"client", "create-partner", "-p", hostNode, "--app-id", "a", "--app-token", "b"},
		{"client", "delete-partner", "-p", hostNode}, {"client", "query-partner"},
	} {
		do(6001, "not at Hutong: ", args...)
	}
	do(0, `"count": 1`, "provider", "delete", "--name", "hutong")
	require.Empty(t, missing, "these commands were not tried")
}
