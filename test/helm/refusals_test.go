package helm

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"sigs.k8s.io/yaml"
)

// TestRefusals checks that wrong values are refused by the name of the field, and that no secret gets into
// the message.
func TestRefusals(t *testing.T) {
	const valid = `
image: {tag: 1.2.3}
config:
  node_id: JG0100001100000010
  temporal: {address: "temporal.bank.example:7233"}
tasks: {namespace: bank-a-tasks}
`
	_, err := render(t, []byte(valid))
	require.NoError(t, err)
	for _, c := range []struct{ name, change, want string }{
		{"no image", `image: {tag: ""}`, "/image"},
		{"no node id", `config: {node_id: ""}`, "/config/node_id"},
		{"no Temporal", `config: {temporal: {address: ""}}`, "/config/temporal/address"},
		{"no namespace", `tasks: {namespace: ""}`, "/tasks/namespace"},
		{"no Secret", `secrets: {urls: ""}`, "/secrets/urls"},
		{"unknown field", `replicas: 2`, "'replicas'"},
		{"unknown field of a process", `api: {replica: 2}`, "'replica'"},
		{"several runners", `runner: {replicas: 2}`, "'replicas'"},
		{"no transport", `transport: {replicas: 0}`, "/transport/replicas"},
		{"transports with one claim", `transport: {storage: {claim: messages}}`,
			"transport.storage.claim: requires transport.replicas 1"},
		{"Service of the transports", `services: {transport: {}}`, "'transport'"},
		{"no replica", `control: {replicas: 0}`, "/control/replicas"},
		{"replicas as a text", `control: {replicas: "2"}`, "/control/replicas"},
		{"size", `transport: {storage: {size: 40}}`, "/transport/storage/size"},
		{"unknown Service", `services: {ops: {}}`, "'ops'"},
		{"selector of a Service", `services: {gate: {spec: {selector: {}}}}`, "/services/gate/spec/selector"},
		{"security of a pod", `pod: {spec: {hostNetwork: true}}`, "'hostNetwork'"},
		{"digest", `image: {digest: latest}`, "/image/digest"},

		{"tasks among the Secrets", `tasks: {namespace: party-a}`, "tasks.namespace: must differ from the namespace"},
		{"database", `config: {database: {url: "postgres://u:hunter2@db/x"}}`,
			"config.database.url: must not be in values, since it is a secret"},
		{"storage", `config: {storage: {url: "s3://x?password=hunter2"}}`,
			"config.storage.url: must not be in values, since it is a secret"},
		{"Temporal's key", `config: {temporal: {api_key: hunter2}}`, "config.temporal.api_key: must not be in values"},
		{"mail", `config: {notifications: {smtp: {password: hunter2}}}`,
			"config.notifications.smtp.password: must not be in values"},
		{"proxy", `config: {proxy: {url: "http://u:hunter2@proxy:3128"}}`, "config.proxy.url: must not be in values"},
		{"webhook", `config: {notifications: {receivers: [{name: a}, {name: b, webhook: {url: "https://x/hunter2"}}]}}`,
			"config.notifications.receivers[1].webhook.url: must not be in values"},
		{"listener", `config: {listen: "0.0.0.0:443"}`, "config.listen: is set by the chart"},
		{"partners' listener", `config: {partners: {listen: "0.0.0.0:443"}}`, "config.partners.listen: is set by the chart"},
		{"certificate", `config: {partners: {tls: {key_file: /x}}}`, "config.partners.tls.key_file: is set by the chart"},
		{"database's file", `config: {database: {url_file: /x}}`, "config.database.url_file: is set by the chart"},
		{"Docker", `config: {runner: {docker: {enabled: auto}}}`, "config.runner.docker.enabled: is set by the chart"},
		{"the runner's namespace", `config: {runner: {k8s: {namespace: x}}}`, "config.runner.k8s.namespace: is set by the chart"},
		{"one transport", `config: {transport: {several: true}}`, "config.transport.several: is set by the chart"},
		{"address of a transport", `config: {transport: {advertise: "x:1"}}`,
			"config.transport.advertise: is set by the chart"},
		{"name of a transport", `config: {transport: {name: x}}`, "config.transport.name: is set by the chart"},
		{"standby", `config: {transport: {standby: true}}`, "config.transport.standby: is set by the chart"},
		{"sessions", `config: {transport: {sessions: all}}`, "config.transport.sessions: is set by the chart"},
		{"the gate's address", `config: {runner: {k8s: {advertise: "x:1"}}}`, "config.runner.k8s.advertise: is set by the chart"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var values, change map[string]any
			require.NoError(t, yaml.Unmarshal([]byte(valid), &values))
			require.NoError(t, yaml.UnmarshalStrict([]byte(c.change), &change))
			merge(values, change)
			document, err := yaml.Marshal(values)
			require.NoError(t, err)
			_, err = render(t, document)
			require.ErrorContains(t, err, c.want)
			assert.NotContains(t, err.Error(), "hunter2")
		})
	}
	for _, allowed := range []string{`config: {proxy: {url: "http://proxy:3128"}}`, `image: {tag: "", digest: sha256:` +
		`aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa}`, `config: {temporal: {tls: {enabled: false}}}`} {
		var values, change map[string]any
		require.NoError(t, yaml.Unmarshal([]byte(valid), &values))
		require.NoError(t, yaml.Unmarshal([]byte(allowed), &change))
		merge(values, change)
		document, err := yaml.Marshal(values)
		require.NoError(t, err)
		_, err = render(t, document)
		require.NoError(t, err, allowed)
	}
}

// merge changes a tree as another one says.
func merge(tree, change map[string]any) {
	for key, value := range change {
		in, isMap := tree[key].(map[string]any)
		part, changesMap := value.(map[string]any)
		if isMap && changesMap {
			merge(in, part)
			continue
		}
		tree[key] = value
	}
}
