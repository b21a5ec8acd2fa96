package bfia

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestParseRegistrationVector(t *testing.T) {
	r, err := ParseRegistration(vector(t, "provider_register.request.json"))
	require.NoError(t, err)
	require.Equal(t, "unionpay:2.0.0@docker", r.FullName())
	require.Equal(t, Metadata{Image: "unionpay:2.0.0"}, r.Metadata)
	require.Equal(t, []string{"HeteroLR", "HeteroSecureBoost", "Intersection"}, sortedKeys(r.Description))
	d, err := ParseDescription("HeteroSecureBoost", r.Description["HeteroSecureBoost"])
	require.NoError(t, err)
	require.Equal(t, []string{"guest", "host"}, d.RoleList)
	require.Equal(t, "dataset train_data", DescribePorts(d.InputData))
	require.Equal(t, "dataset train_data, model model, report train-loss, report train-auc, report train-ks",
		DescribePorts(d.OutputData))
	for _, p := range d.InputParam {
		require.False(t, p.Required(), p.Name)
	}
}

func TestParseRegistrationDevices(t *testing.T) {
	body := edit(t, vector(t, "provider_register.request.json"), "protocol", nil)
	r, err := ParseRegistration(body)
	require.NoError(t, err)
	require.Equal(t, "bfia", r.Protocol, "the only one, so it need not be said")

	body = edit(t, edit(t, body, "device", "process"), "metadata",
		map[string]any{"command": []string{"algorithm", "run"}})
	r, err = ParseRegistration(body)
	require.NoError(t, err)
	require.Equal(t, "unionpay:2.0.0@process", r.FullName())
	require.Equal(t, []string{"algorithm", "run"}, r.Metadata.Command)

	r, err = ParseRegistration(edit(t, body, "metadata.requires", map[string]any{"gpu": "1"}))
	require.NoError(t, err)
	require.EqualValues(t, map[string]string{"gpu": "1"}, r.Metadata.Constraints)
}

func TestParseRegistrationRefusals(t *testing.T) {
	form := ` can contain only letters, digits, '_', '-' and '.', and must start with a letter or digit`
	const psi = "components_description.Intersection"
	for _, test := range []struct {
		path    string
		value   any
		message string
	}{
		{"name", nil, "name: is required"},
		{"name", "a:b", `name: "a:b"` + form},
		{"name", 1, "name: is a JSON number, must be a string"},
		{"version", nil, "version: is required"},
		{"version", "1@2", `version: "1@2"` + form},
		{"protocol", "fate", `protocol: "fate" is not supported, must be "bfia"`},
		{"device", nil, `device: is required: "docker", "process" or "k8s"`},
		{"device", "K8S", `device: "K8S" is not supported, must be "docker", "process" or "k8s"`},
		{"device", "process",
			`metadata.command: is required for device "process": a list, the program's path first`},
		{"metadata", "x", "metadata: is a JSON string, must be an object"},
		{"metadata.command", "x", "metadata.command: is a JSON string, must be a list"},
		{"metadata.requires", []any{"gpu"}, "metadata.requires: is a JSON array, must be an object"},
		{"metadata.requires", map[string]any{"gpu": 1},
			"metadata.requires.gpu: is a JSON number, must be a string"},
		{"metadata.requires", map[string]any{"gpu": ""}, "metadata.requires.gpu: is required"},
		{"metadata.image", nil, `metadata.image: is required for device "docker"`},
		{"metadata.image", " ", `metadata.image: is required for device "docker"`},
		{"components_description", nil, "components_description: at least one component is required"},
		{"components_description", []any{}, "components_description: is a JSON array, must be an object"},
		{psi, "x", psi + ": is a JSON string, must be an object"},
		{psi, []any{nil}, psi + ": is a JSON array, must be an object"},
		{psi + ".componentName", nil, psi + ".componentName: is required"},
		{psi + ".componentName", "", psi + ".componentName: is required"},
		{psi + ".componentName", "PSI", psi + `.componentName: is "PSI" under the key "Intersection"`},
		{psi + ".title", nil, psi + ".title: is required"},
		{psi + ".provider", nil, psi + ".provider: is required"},
		{psi + ".version", 2.0, psi + ".version: is a JSON number, must be a string"},
		{psi + ".storageEngine", nil, psi + ".storageEngine: is required"},
		{psi + ".storageEngine", "s3", psi + ".storageEngine: is a JSON string, must be a list"},
		{psi + ".result", nil, psi + ".result: is required"},
		{psi + ".roleList", nil, psi + ".roleList: is required"},
		{psi + ".roleList", []any{}, psi + ".roleList: at least one role is required"},
		{psi + ".roleList.1", 1, psi + ".roleList[1]: is a JSON number, must be a string"},
		{psi + ".roleList.1", "a b", psi + `.roleList[1]: "a b"` + form},
		{psi + ".inputParam", nil, psi + ".inputParam: is required"},
		{psi + ".inputParam", map[string]any{}, psi + ".inputParam: is a JSON object, must be a list"},
		{psi + ".inputParam.2", "x", psi + ".inputParam[2]: is a JSON string, must be an object"},
		{psi + ".inputParam.2.name", nil, psi + ".inputParam[2].name: is required"},
		{psi + ".inputParam.2.name", "a=b", psi + `.inputParam[2].name: "a=b"` + form},
		{psi + ".inputParam.2.name", "id", psi + `.inputParam[2].name: "id" is given twice`},
		{psi + ".inputParam.2.type", nil, psi + ".inputParam[2].type: is required"},
		{psi + ".inputParam.2.type", 1, psi + ".inputParam[2].type: is a JSON number, must be a string"},
		{psi + ".inputParam.2.optional", "yes", psi +
			`.inputParam[2].optional: is "yes", must be true or false`},
		{psi + ".inputParam.2.optional", 1, psi + ".inputParam[2].optional: is 1, must be true or false"},
		{"metadata.session", "container", `metadata.session: is "container", must be "job" or "task"`},
		{psi + ".inputData", nil, psi + ".inputData: is required"},
		{psi + ".inputData.0", 7, psi + ".inputData[0]: is a JSON number, must be an object"},
		{psi + ".inputData.0.name", nil, psi + ".inputData[0].name: is required"},
		{psi + ".inputData.0.category", "", psi + ".inputData[0].category: is required"},
		{psi + ".outputData", nil, psi + ".outputData: is required"},
		{psi + ".outputData.1.category", "a/b", psi + `.outputData[1].category: "a/b"` + form},
		{psi + ".outputData.1.name", "train_data", psi + `.outputData[1].name: "train_data" is given twice`},
		{psi + ".outputData.1.name", "../x", psi + `.outputData[1].name: "../x"` + form},
	} {
		t.Run(test.message, func(t *testing.T) {
			_, err := ParseRegistration(
				edit(t, vector(t, "provider_register.request.json"), test.path, test.value),
			)
			requireRefusal(t, err, CodeBadRequest, test.message)
		})
	}
	_, err := ParseRegistration([]byte(`{"name":`))
	requireRefusal(t, err, CodeBadRequest, "body: the JSON is incomplete")
}

// TestParseRegistrationIsDeterministic checks that of several faults the same one is reported each time.
func TestParseRegistrationIsDeterministic(t *testing.T) {
	body := vector(t, "provider_register.request.json")
	for _, name := range []string{"Intersection", "HeteroLR", "HeteroSecureBoost"} {
		body = edit(t, body, "components_description."+name+".title", nil)
	}
	for range 20 {
		_, err := ParseRegistration(body)
		requireRefusal(t, err, CodeBadRequest, "components_description.HeteroLR.title: is required")
	}
}

func TestRequired(t *testing.T) {
	for _, test := range []struct {
		text string
		want bool
	}{
		{`{}`, false},
		{`{"optional": true}`, false},
		{`{"optional": "true"}`, false},
		{`{"optional": "True"}`, false},
		{`{"optional": ""}`, false},
		{`{"optional": null}`, false},
		{`{"optional": false}`, true},
		{`{"optional": "false"}`, true},
		{`{"optional": "False"}`, true},
		{`{"optional": false, "defaultValue": null}`, true},
		{`{"optional": false, "defaultValue": "x"}`, false},
		{`{"optional": "false", "defaultValue": 0}`, false},
	} {
		var p InputParam
		require.NoError(t, json.Unmarshal([]byte(test.text), &p))
		require.Equal(t, test.want, p.Required(), test.text)
		// The store keeps descriptions; what it reads again means the same.
		b, err := json.Marshal(p)
		require.NoError(t, err)
		var again InputParam
		require.NoError(t, json.Unmarshal(b, &again))
		require.Equal(t, test.want, again.Required(), "%s", b)
	}
}
