package interop

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"hutong/bfia"
	"hutong/store/blob"
	"hutong/store/dataset"
	"hutong/test/testenv"
	"hutong/test/testenv/apiclient"
)

const (
	noImageAtHutong   = "lacked-by-hutong"
	noImageAtFateFlow = "lacked-by-fate"
	failsAtHutong     = "fails-at-hutong"
	failsAtFateFlow   = "fails-at-fate"

	// providerImage is the image of the reference provider, under a name that no other test uses.
	providerImage = "hutong/interop:1"
	failingImage  = "hutong/interop-failing:1"
	missingImage  = "hutong/no-such-image:1"
)

// registerProviders registers the same providers at both parties: the reference provider and its test
// component Sleep.
func (env *environment) registerProviders(t *testing.T) {
	reference := readJSON(t, "providers", "reference", "provider.json")
	reference["metadata"] = map[string]any{"base_url": "", "image": providerImage}
	for _, e := range []endpoint{env.hutong.endpoint, env.fateFlow.endpoint} {
		e.mustRequest(t, http.MethodPost, bfia.PathProviderRegister, reference, nil)
		e.mustRequest(t, http.MethodPost, bfia.PathProviderRegister, sleepProvider("test", providerImage),
			nil)
	}
	// These providers have a missing or a failing image at one party. Parameters of one role can't achieve
	// the same, since FATE-Flow 2.2.0 passes only common parameters to its containers.
	for name, images := range map[string][2]string{
		noImageAtHutong: {missingImage, providerImage}, noImageAtFateFlow: {providerImage, missingImage},
		failsAtHutong: {failingImage, providerImage}, failsAtFateFlow: {providerImage, failingImage},
	} {
		env.hutong.mustRequest(t, http.MethodPost, bfia.PathProviderRegister,
			sleepProvider(name, images[0]), nil)
		env.fateFlow.mustRequest(t, http.MethodPost, bfia.PathProviderRegister,
			sleepProvider(name, images[1]), nil)
	}
}

func sleepProvider(name, image string) map[string]any {
	data := func(name string) []any {
		return []any{
			map[string]any{"name": name, "description": name, "category": "dataset",
				"dataFormat": []string{"csv"}},
		}
	}
	return map[string]any{"name": name, "version": "1", "device": "docker", "protocol": "bfia",
		"metadata": map[string]any{"base_url": "", "image": image},
		"components_description": map[string]any{"Sleep": map[string]any{
			"componentName": "Sleep", "title": "Sleep", "provider": name, "version": "1",
			"description": "sleeps", "desVersion": "1",
			"roleList": []string{"guest", "host"}, "storageEngine": []string{"s3"}, "inputParam": []any{},
			"inputData": data("in"), "outputData": data("out"), "result": []any{}}}}
}

// uploadData puts both datasets into both parties' storage, so that each party can be guest or host.
// FATE-Flow 2.2.0 has no upload for BFIA jobs, so its datasets are written to its storage.
func (env *environment) uploadData(t *testing.T) {
	blobs, err := blob.Open(t.Context(), env.fateFlow.storage)
	require.NoError(t, err)
	for _, side := range []string{"guest", "host"} {
		rows, err := os.ReadFile(filepath.Join(testenv.Root(t), "testdata", "breast", side+".csv"))
		require.NoError(t, err)
		require.NoError(t, blobs.DeletePrefix(t.Context(), "interop/"+side))
		_, err = dataset.Write(
			t.Context(),
			blobs,
			dataset.IngestRequest{Namespace: "interop", Name: side, Head: true, Partitions: 1,
				ExtendSID: true, Meta: json.RawMessage(`{"delimiter":",","match_id_name":"id"}`)},
			"",
			bytes.NewReader(rows),
		)
		require.NoError(t, err)

		require.NoError(t, apiclient.Upload(t.Context(), env.hutong.url, side+".csv", rows, map[string]string{
			"head": "true", "partitions": "1", "extend_sid": "true",
			"meta": `{"delimiter":",","match_id_name":"id"}`, "namespace": "interop", "name": side}))
	}
}

// referenceJob returns the job of the demo, intersection and then boosted trees, between two parties.
func referenceJob(t *testing.T, guest, host string) []byte {
	job := readJSON(t, "deploy", "demo", "job.json")
	config := job["config"].(map[string]any)
	config["initiator"] = map[string]any{"role": "guest", "node_id": guest}
	config["role"] = map[string]any{"guest": []string{guest}, "host": []string{host}}
	params := config["task_params"].(map[string]any)
	for _, role := range []string{"guest", "host"} {
		params[role] = map[string]any{
			"0": map[string]any{"intersect_rsa_1": map[string]any{"dataset_id": "interop#" + role}},
		}
	}
	return marshal(t, job)
}

// sleepJob describes a job of Sleep tasks.
type sleepJob struct {
	guest, host string
	tasks       int               // length of the chain s1, s2, …
	seconds     map[string]int    // duration by task; 1 by default
	provider    string            // "" for the provider test
	data        map[string]string // dataset by role; by default the uploaded one
}

func (s sleepJob) document(t *testing.T) []byte {
	if s.provider == "" {
		s.provider = "test"
	}
	var components []any
	common := map[string]any{}
	for i := 1; i <= s.tasks; i++ {
		name, input := fmt.Sprintf("s%d", i), []any{}
		if i > 1 {
			input = []any{map[string]string{"type": "dataset", "key": fmt.Sprintf("s%d.out", i-1)}}
		}
		components = append(
			components,
			map[string]any{"name": name, "componentName": "Sleep", "provider": s.provider,
				"version": "1", "input": input,
				"output": []any{map[string]string{"type": "dataset", "key": "out"}}},
		)
		seconds := 1
		if v, ok := s.seconds[name]; ok {
			seconds = v
		}
		common[name] = map[string]any{"seconds": fmt.Sprint(seconds)}
	}
	params := map[string]any{"common": common}
	for _, role := range []string{"guest", "host"} {
		first := map[string]any{"dataset_id": "interop#" + role}
		if data, other := s.data[role]; other {
			first["dataset_id"] = data
		}
		params[role] = map[string]any{"0": map[string]any{"s1": first}}
	}
	resources := map[string]any{
		"0": map[string]any{"resources": map[string]any{"cpu": -1, "memory": -1, "disk": -1}},
	}
	return marshal(
		t,
		map[string]any{
			"flow_id": "interop",
			"dag":     map[string]any{"version": "2.0", "components": components},
			"config": map[string]any{
				"version":   "2.0.0",
				"initiator": map[string]string{"role": "guest", "node_id": s.guest},
				"role":      map[string]any{"guest": []string{s.guest}, "host": []string{s.host}},
				"job_params": map[string]any{"common": map[string]any{"sync_type": "poll"},
					"guest": resources, "host": resources},
				"task_params": params,
			},
		},
	)
}

func readJSON(t *testing.T, path ...string) map[string]any {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(append([]string{testenv.Root(t)}, path...)...))
	require.NoError(t, err)
	return decode(t, b)
}

func decode(t *testing.T, b []byte) map[string]any {
	t.Helper()
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber() // numbers stay as they are written
	var fields map[string]any
	require.NoError(t, d.Decode(&fields))
	return fields
}

func marshal(t *testing.T, v any) []byte {
	t.Helper()
	b, err := json.Marshal(v)
	require.NoError(t, err)
	return b
}
