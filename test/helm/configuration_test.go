package helm

import (
	"context"
	"encoding/json"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	sigsyaml "sigs.k8s.io/yaml"
)

// secrets are the keys of the Secrets that docs/operators/kubernetes.md describes, with those of full.yaml.
var secrets = map[string][]string{
	"urls":     {"database_url", "storage_url"},
	"api":      {"tls.crt", "tls.key"},
	"partners": {"tls.crt", "tls.key"},
	"services": {"ca.crt"},
	"keys":     {"current", "20261129-k3x9ab.key"},

	"temporal": {"tls.crt", "tls.key"}, "mail": {"password"}, "partner-ca": {"ca.crt"},
}

// contents are those of the keys that the configuration reads at its validation.
var contents = map[string]string{
	"database_url": "postgres://hutong:secret@db.bank.example:5432/hutong",
	"storage_url":  "s3://s3.bank.example:9000?username=hutong&password=secret&bucket=hutong",
}

// keysOf returns the keys of a Secret, whatever prefix the values give its name.
func keysOf(t *testing.T, secret string) []string {
	t.Helper()
	_, name, _ := strings.Cut(secret, "-")
	keys := secrets[name]
	require.NotEmpty(t, keys, "the chart uses the Secret %s", secret)

	return keys
}

// mount writes the files of a pod below a folder, as a node does.
func mount(t *testing.T, r release, pod corev1.PodTemplateSpec, dir string) {
	t.Helper()
	c := pod.Spec.Containers[0]
	for _, m := range c.VolumeMounts {
		at := filepath.Join(dir, m.MountPath)
		require.NoError(t, os.MkdirAll(at, 0o750))
		write := func(path, content string, mode *int32) {
			path = filepath.Join(at, path)
			require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o750))
			content = strings.ReplaceAll(content, "/etc/hutong", dir+"/etc/hutong")
			content = strings.ReplaceAll(content, "/var/lib/hutong", dir+"/var/lib/hutong")
			require.NoError(t, os.WriteFile(path, []byte(content), os.FileMode(*mode)|0o200))
		}
		i := slices.IndexFunc(pod.Spec.Volumes, func(v corev1.Volume) bool { return v.Name == m.Name })
		if i < 0 {
			require.Equal(t, "data", m.Name, "no volume") // the claim of the StatefulSet
			continue
		}
		if s := pod.Spec.Volumes[i].Secret; s != nil {
			for _, key := range keysOf(t, s.SecretName) {
				write(key, "content", s.DefaultMode)
			}
		}
		if p := pod.Spec.Volumes[i].Projected; p != nil {
			for _, source := range p.Sources {
				if source.ConfigMap != nil {
					for key, text := range find[*corev1.ConfigMap](t, r, source.ConfigMap.Name).Data {
						write(key, text, p.DefaultMode)
					}
					continue
				}
				for _, item := range source.Secret.Items {
					require.Contains(t, keysOf(t, source.Secret.Name), item.Key)
					text := contents[item.Key]
					if text == "" {
						text = "content"
					}
					write(item.Path, text, p.DefaultMode)
				}
			}
		}
	}
}

// podIP is the address that a node gives a pod.
const podIP = "10.244.1.7"

// environment returns the variables of a pod as a node does: with those of the Services of its namespace, if
// the pod asks for them, and references to earlier ones replaced.
func environment(r release, pod corev1.PodTemplateSpec, dir string) (variables []string) {
	known := map[string]string{}
	if *pod.Spec.EnableServiceLinks {
		for _, s := range all[*corev1.Service](r) {
			port := strconv.Itoa(int(s.Spec.Ports[0].Port))
			prefix := strings.ToUpper(strings.ReplaceAll(s.Name, "-", "_"))
			known[prefix+"_SERVICE_HOST"] = "10.96.0.42"
			known[prefix+"_SERVICE_PORT"] = port
			known[prefix+"_PORT"] = "tcp://10.96.0.42:" + port
		}
	}
	for _, e := range pod.Spec.Containers[0].Env {
		if e.ValueFrom != nil {
			known[e.Name] = map[string]string{"status.podIP": podIP}[e.ValueFrom.FieldRef.FieldPath]
			continue
		}
		value := strings.ReplaceAll(e.Value, "/etc/hutong", dir+"/etc/hutong")
		for name, text := range known {
			value = strings.ReplaceAll(value, "$("+name+")", text)
		}
		variables = append(variables, e.Name+"="+value)
	}
	for name, value := range known {
		variables = append(variables, name+"="+value)
	}

	return variables
}

// check is one result of hutong doctor.
type check struct {
	Name, State, Detail string
}

// examine has hutong doctor read the configuration of a pod, and returns what it says of it. Its other checks
// fail, since no service is there.
func examine(t *testing.T, variables []string) check {
	t.Helper()
	program, err := filepath.Abs(filepath.Join(root, "bin", "hutong"))
	require.NoError(t, err)
	_, err = os.Stat(program)
	require.NoError(t, err, "run make build first")
	cmd := exec.CommandContext(context.WithoutCancel(t.Context()), program, "doctor", "--json")
	cmd.Env = variables
	cmd.Dir = t.TempDir()
	out, _ := cmd.Output() // its status is that of all checks
	var checks []check
	require.NoError(t, json.Unmarshal(out, &checks), "%s", out)
	require.Equal(t, "configuration", checks[0].Name)

	return checks[0]
}

// TestConfigurationIsValid starts from what a node gives the container of each process, and has Hutong read
// it.
func TestConfigurationIsValid(t *testing.T) {
	for _, file := range valueFiles {
		r := open(t, file)
		for process, pod := range r.pods() {
			t.Run(file+" "+process, func(t *testing.T) {
				t.Parallel()
				dir := t.TempDir()
				mount(t, r, pod, dir)
				variables := environment(r, pod, dir)
				assert.Equal(t, check{"configuration", "ok", "valid, node id JG0100001100000010"},
					examine(t, variables))
				variable := map[string]string{"runner": "HUTONG_RUNNER_K8S_ADVERTISE",
					"transport": "HUTONG_TRANSPORT_ADVERTISE"}[process]
				if variable == "" {
					return
				}
				i := slices.IndexFunc(variables, func(v string) bool {
					return strings.HasPrefix(v, variable+"=")
				})
				require.GreaterOrEqual(t, i, 0)
				want := "[" + podIP + "]:9390"
				if process == "runner" {
					want = map[string]string{"least.yaml": "10.96.0.42", "full.yaml": "10.96.0.77",
						"single.yaml": "[fd00:96::77]"}[file] + ":9381"
				}
				assert.Equal(t, variable+"="+want, variables[i])
			})
		}
	}
}

// TestRunnerRefusesAnUnknownGate checks that the runner does not start with a reference to a Service that its
// node does not know yet. The node starts it again.
func TestRunnerRefusesAnUnknownGate(t *testing.T) {
	r := open(t, "least.yaml")
	pod := r.pods()["runner"]
	dir := t.TempDir()
	mount(t, r, pod, dir)
	*pod.Spec.EnableServiceLinks = false
	refused := examine(t, environment(r, pod, dir))
	assert.Equal(t, "FAILED", refused.State)
	assert.Contains(t, refused.Detail, "runner.k8s.advertise: must be host:port")
}

// TestFilesAreMounted checks that every file that the configuration names is in the container.
func TestFilesAreMounted(t *testing.T) {
	named := regexp.MustCompile(`/etc/hutong[^\s,}"]*`)
	for _, file := range valueFiles {
		r := open(t, file)
		for process, pod := range r.pods() {
			dir := t.TempDir()
			mount(t, r, pod, dir)
			found := named.FindAllString(find[*corev1.ConfigMap](t, r, name).Data["party.yaml"], -1)
			require.NotEmpty(t, found)
			for _, path := range found {
				_, err := os.Stat(filepath.Join(dir, path)) // a file, or the folder of keys
				assert.NoError(t, err, "%s, %s", file, process)
			}
		}
	}
}

// TestConfigurationHasTheValues checks that the fields of config arrive as they are, with those of the chart.
func TestConfigurationHasTheValues(t *testing.T) {
	r := open(t, "full.yaml")
	var party, values map[string]any
	made := find[*corev1.ConfigMap](t, r, name).Data["party.yaml"]
	require.NoError(t, sigsyaml.Unmarshal([]byte(made), &party))
	text, err := os.ReadFile(filepath.Join("testdata", "full.yaml"))
	require.NoError(t, err)
	require.NoError(t, sigsyaml.Unmarshal(text, &values))
	requireContains(t, "config", party, values["config"])
	requireContains(t, "config", party, map[string]any{
		"transport": map[string]any{"several": true, "total_mib": float64(65536)},
		"runner":    map[string]any{"k8s": map[string]any{"namespace": "bank-a-tasks"}},
		"log":       map[string]any{"format": "json"},
		"database":  map[string]any{"ca_file": "/etc/hutong/services/ca.crt"},
	})
}

// requireContains checks that a tree contains all of another.
func requireContains(t *testing.T, field string, tree, part any) {
	t.Helper()
	fields, ok := part.(map[string]any)
	if !ok {
		require.Equal(t, part, tree, field)
		return
	}
	in, ok := tree.(map[string]any)
	require.True(t, ok, field)
	for key, value := range fields {
		requireContains(t, field+"."+key, in[key], value)
	}
}

// TestChangesRestart checks that pods start again when the configuration changes, and only then.
func TestChangesRestart(t *testing.T) {
	document, err := os.ReadFile(filepath.Join("testdata", "least.yaml"))
	require.NoError(t, err)
	sums := func(more string) map[string]string {
		found := map[string]string{}
		for process, pod := range openDocument(t, append(document, more...)).pods() {
			found[process] = pod.Annotations["checksum/config"]
		}
		return found
	}
	before := sums("")
	require.Len(t, before, len(processes))
	assert.Equal(t, before, sums("api: {replicas: 5}\n"))
	after := sums("secrets: {keys: hutong-keys}\n")
	for process := range maps.Keys(before) {
		assert.NotEqual(t, before[process], after[process], process)
	}
}
