package api

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hutong/bfia"
	"hutong/fateflow"
)

// Every request that the real FATE-Flow 2.2.0 sent for a job of its own, whose task failed in two versions,
// is taken in its order.
func TestFateFlowReplay(t *testing.T) {
	p := newParty(t, func(c *Config) { c.CheckDatasets = false })
	data := func(name string) []any {
		return []any{map[string]any{"name": name, "description": name, "category": "dataset",
			"dataFormat": []string{"csv"}}}
	}
	p.good(post(bfia.PathProviderRegister, map[string]any{"name": "fails-at-hutong", "version": "1",
		"device": "docker", "protocol": "bfia",
		"metadata": map[string]any{"base_url": "", "image": "sleep:1"},
		"components_description": map[string]any{"Sleep": map[string]any{
			"componentName": "Sleep", "title": "Sleep", "provider": "fails-at-hutong", "version": "1",
			"description": "sleeps", "desVersion": "1",
			"roleList": []string{"guest", "host"}, "storageEngine": []string{"s3"}, "inputParam": []any{},
			"inputData": data("in"), "outputData": data("out"), "result": []any{}}}}))
	p.engine.grant = bfia.Grant{Granted: true}
	p.peer("JG0100001100000072", "http://127.0.0.1:1")
	text, err := os.ReadFile(filepath.Join("..", "testdata", "fate", "native-wire.json"))
	require.NoError(t, err)
	var wire []struct {
		Path string
		Body json.RawMessage
	}
	require.NoError(t, json.Unmarshal([]byte(strings.ReplaceAll(string(text), "JG0100001100000071", guest)),
		&wire))
	seen := map[string]int{}
	ended := 0
	for _, x := range wire {
		p.good(post(x.Path, string(x.Body)).from("JG0100001100000072"))
		seen[x.Path]++
		var in fateflow.Command
		require.NoError(t, json.Unmarshal(x.Body, &in))
		switch x.Path {
		case fateflow.PathTaskStart: // the workflow runs it, and it fails
			ref := fateflow.Attempt(in.JobID, "s1", in.TaskVersion)
			tasks, err := p.store.StartTask(t.Context(), in.JobID, "s1", ref.TaskID, ref.AttemptNumber(),
				time.Now())
			require.NoError(t, err)
			require.NoError(t, p.store.EndTask(t.Context(), tasks[0].Key(), ref.TaskID, bfia.TaskFailed,
				"exit code 1", time.Now()))
		case fateflow.PathJobStop:
			require.NoError(t, p.store.UpdateJob(t.Context(), in.JobID, bfia.JobFinished, "exit code 1",
				time.Now()))
			ended++
		}
	}
	for _, path := range []string{fateflow.PathJobCreate, fateflow.PathTaskRerun} {
		require.Equal(t, 1, seen[path], path)
	}
	for _, path := range []string{fateflow.PathJobStart, fateflow.PathTaskStart, fateflow.PathJobApply,
		fateflow.PathTaskApply} {
		require.Equal(t, 2, seen[path], path)
	}
	require.Equal(t, 2, ended)
}
