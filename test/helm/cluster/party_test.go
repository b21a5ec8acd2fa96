package cluster

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
)

// storageClass is that of the volumes that the test makes, and version the tag of its images.
const (
	storageClass = "by-hand"
	version      = "test"

	// transports is the number of transports of a party, and processes that of all its pods.
	transports = 2
	processes  = 2 + 1 + 1 + transports
)

// cluster is the cluster of with.sh.
type cluster struct {
	services
	dir, chart string
	admin      *kubernetes.Clientset
}

// openCluster returns the cluster, whose nodes have the images, or skips the test.
func openCluster(t *testing.T) cluster {
	t.Helper()
	c := cluster{dir: os.Getenv("HUTONG_TEST_KUBELET")}
	if c.dir == "" {
		t.Skip("HUTONG_TEST_KUBELET names no cluster with a kubelet; run make test-helm-cluster")
	}
	config, err := clientcmd.BuildConfigFromFlags("", filepath.Join(c.dir, "kubeconfig"))
	require.NoError(t, err)
	c.admin, err = kubernetes.NewForConfig(config)
	require.NoError(t, err)
	for _, name := range []string{"hutong", "provider"} {
		c.loadImage(t, name, program(t, filepath.Join(root, "bin"), name))
	}
	c.loadReach(t)
	for _, name := range []string{"strangers", "clients", "monitoring"} {
		c.createNamespace(t, name)
	}
	c.chart = copyChart(t)
	c.services = startServices(t)

	return c
}

// createNamespace makes a namespace that enforces the Pod Security Standard restricted.
func (c cluster) createNamespace(t *testing.T, name string) {
	t.Helper()
	restricted := map[string]string{"pod-security.kubernetes.io/enforce": "restricted"}
	_, err := c.admin.CoreV1().Namespaces().Create(t.Context(), &corev1.Namespace{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: restricted}}, metav1.CreateOptions{})
	require.NoError(t, err)
}

// copyChart returns a copy of the chart for any version of Kubernetes: the cluster is built of modules, which
// do not know theirs, and says v0.0.0.
func copyChart(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	require.NoError(t, os.CopyFS(dir, os.DirFS(filepath.Join(root, "deploy", "helm", "hutong"))))
	file := filepath.Join(dir, "Chart.yaml")
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	text = regexp.MustCompile(`(?m)^kubeVersion: .*\n`).ReplaceAll(text, nil)
	require.NoError(t, os.WriteFile(file, text, 0o600))

	return dir
}

// party is a party that the chart has installed.
type party struct {
	cluster
	node, namespace string
	partner         string // its partner's namespace
	network         int    // the third byte of the addresses of its Services
	files           string // the folder of its administrator
}

// ip returns the address of one of the party's Services.
func (p party) ip(last int) string { return fmt.Sprintf("10.96.%d.%d", p.network, last) }

// The last bytes of the addresses of Services.
const (
	clients = 2 + iota
	partners
	messages
)

// install makes the namespaces, Secrets and volumes of a party, and installs it.
func (c cluster) install(t *testing.T, node, namespace, partner string, network int) party {
	t.Helper()
	p := party{cluster: c, node: node, namespace: namespace, partner: partner, network: network,
		files: t.TempDir()}
	for _, name := range []string{namespace, namespace + "-tasks"} {
		c.createNamespace(t, name)
	}
	c.sql(t, "postgres", "CREATE DATABASE "+p.database())
	p.makeSecrets(t)
	for n := range transports {
		p.makeVolume(t, n)
	}
	p.write(t, "values.yaml", p.values())
	t.Cleanup(func() {
		if t.Failed() {
			p.describe(t)
		}
	})
	p.helm(t)
	token := p.command("token", "create", "--direct", "--name", "admin", "--roles", "admin")
	token.Env = append(token.Env, "HUTONG_NODE_ID="+node, "HUTONG_DATABASE_URL="+p.databaseURL(),
		"HUTONG_DATABASE_CA_FILE="+filepath.Join(p.files, "services.crt"))
	p.write(t, "token", run(t, token))
	require.Eventually(t, func() bool {
		out, err := p.command("runner", "list").CombinedOutput()
		return err == nil && strings.Contains(string(out), "online")
	}, time.Minute, time.Second, "no runner of %s is online", namespace)

	return p
}

func (p party) write(t *testing.T, name, text string) {
	t.Helper()
	require.NoError(t, os.WriteFile(filepath.Join(p.files, name), []byte(text), 0o600))
}

func (p party) database() string { return strings.ReplaceAll(p.namespace, "-", "_") }

func (p party) databaseURL() string { return "postgres://postgres@" + p.postgres + "/" + p.database() }

// query returns the rows of a query of the party's database, their fields with | between them.
func (p party) query(t *testing.T, statement string) string {
	t.Helper()

	return p.sql(t, p.database(), statement)
}

func (p party) makeSecrets(t *testing.T) {
	t.Helper()
	for name, args := range map[string][]string{"partners.pem": nil, "api.pem": {"--host", p.ip(clients)}} {
		run(t, p.command(append([]string{"cert", "init", p.node, name}, args...)...))
	}
	run(t, p.command("key", "create", "--use", "keys"))
	read := func(name string) []byte {
		text, err := os.ReadFile(filepath.Join(p.files, name))
		require.NoError(t, err)
		return text
	}
	keys := map[string][]byte{}
	entries, err := os.ReadDir(filepath.Join(p.files, "keys"))
	require.NoError(t, err)
	for _, e := range entries {
		keys[e.Name()] = read(filepath.Join("keys", e.Name()))
	}
	p.write(t, "services.crt", string(p.authority))
	p.write(t, "api.crt", string(certificate(read("api.pem"))))
	storage := fmt.Sprintf("s3://%s?username=hutong&password=hutong-secret&bucket=%s", p.s3, p.namespace)
	for name, data := range map[string]map[string][]byte{
		"hutong-partners": {"tls.crt": read("partners.pem"), "tls.key": read("partners.pem")},
		"hutong-api":      {"tls.crt": read("api.pem"), "tls.key": read("api.pem")},
		"hutong-urls":     {"database_url": []byte(p.databaseURL()), "storage_url": []byte(storage)},
		"hutong-services": {"ca.crt": p.authority},
		"hutong-keys":     keys,
	} {
		_, err := p.admin.CoreV1().Secrets(p.namespace).Create(t.Context(), &corev1.Secret{
			ObjectMeta: metav1.ObjectMeta{Name: name}, Data: data}, metav1.CreateOptions{})
		require.NoError(t, err)
	}
}

// makeVolume makes a volume for a transport, since the cluster has nothing that provides one.
func (p party) makeVolume(t *testing.T, n int) {
	t.Helper()
	folder := t.TempDir()
	require.NoError(t, os.Chown(folder, 65530, 65530))
	_, err := p.admin.CoreV1().PersistentVolumes().Create(t.Context(), &corev1.PersistentVolume{
		ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("%s-%d", p.namespace, n)},
		Spec: corev1.PersistentVolumeSpec{
			AccessModes:      []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
			Capacity:         corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("40Gi")},
			StorageClassName: storageClass,
			PersistentVolumeSource: corev1.PersistentVolumeSource{
				HostPath: &corev1.HostPathVolumeSource{Path: folder}},
		}}, metav1.CreateOptions{})
	require.NoError(t, err)
}

// values returns those of the chart. The number of transports is the default.
func (p party) values() string {
	return fmt.Sprintf(`
image: {tag: %s}
secrets: {services: hutong-services, keys: hutong-keys}
config:
  node_id: %s
  temporal: {address: "%s"}
  partners: {url: "https://%s:9382", transport_url: "https://%s:9391"}
  runner: {slots: 4}
tasks: {namespace: %s-tasks}
control: {replicas: 1}
transport: {storage: {class: %s}}
services:
  clients: {spec: {clusterIP: %s}}
  partners: {spec: {clusterIP: %s}}
  messages: {spec: {clusterIP: %s}}
networkPolicy:
  clients: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: clients}}}]
  partners: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: %s}}}]
`, version, p.node, p.temporal, p.ip(partners), p.ip(messages), p.namespace, storageClass, p.ip(clients),
		p.ip(partners), p.ip(messages), p.partner)
}

// helm installs or upgrades the release.
func (p party) helm(t *testing.T, args ...string) {
	t.Helper()
	args = append([]string{"upgrade", "--install", "hutong", p.chart, "--namespace", p.namespace,
		"--values", "values.yaml", "--wait", "--timeout", "5m"}, args...)
	cmd := exec.Command(program(t, os.Getenv("HUTONG_TEST_BIN"), "helm"), args...)
	cmd.Dir = p.files
	cmd.Env = []string{"HOME=" + p.files, "KUBECONFIG=" + filepath.Join(p.dir, "kubeconfig")}
	began := time.Now()
	out, err := cmd.CombinedOutput()
	assert.NoError(t, err, "%s", out)
	t.Logf("helm %s took %s", p.namespace, time.Since(began).Round(time.Second))
}

// command returns a command of the party's administrator.
func (p party) command(args ...string) *exec.Cmd {
	hutong, err := filepath.Abs(filepath.Join(root, "bin", "hutong"))
	if err != nil {
		panic(err)
	}
	cmd := exec.Command(hutong, args...)
	cmd.Dir = p.files
	cmd.Env = []string{"HOME=" + p.files, "HUTONG_URL=https://" + p.ip(clients) + ":9380",
		"HUTONG_CA_FILE=api.crt", "HUTONG_TOKEN_FILE=token"}

	return cmd
}

// hutong runs a command of the party's administrator.
func (p party) hutong(t *testing.T, args ...string) string {
	t.Helper()

	return strings.TrimSpace(run(t, p.command(args...)))
}

// soon runs a command until it succeeds: all processes of both parties know a partner within seconds.
func (p party) soon(t *testing.T, args ...string) string {
	t.Helper()
	var out []byte
	require.Eventually(t, func() bool {
		var err error
		out, err = p.command(args...).CombinedOutput()
		return err == nil
	}, time.Minute, 2*time.Second, "%s fails", strings.Join(args, " "))

	return string(out)
}

// fingerprint returns that of the party's certificate.
func (p party) fingerprint(t *testing.T) string {
	t.Helper()
	for line := range strings.Lines(p.hutong(t, "cert", "show", "partners.pem")) {
		if text, found := strings.CutPrefix(line, "fingerprint"); found {
			return strings.TrimSpace(text)
		}
	}
	t.Fatal("the certificate has no fingerprint")

	return ""
}

// prepare gives the party the reference provider, its part of the data, and a partner the right to use them.
func (p party) prepare(t *testing.T, partner party, upload ...string) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, "providers", "reference", "provider.json"))
	require.NoError(t, err)
	var provider map[string]any
	require.NoError(t, json.Unmarshal(text, &provider))
	provider["device"], provider["metadata"] = "k8s", map[string]any{"image": "hutong/provider:" + version}
	text, err = json.Marshal(provider)
	require.NoError(t, err)
	p.write(t, "provider.json", string(text))
	p.hutong(t, "provider", "register", "provider.json")
	p.hutong(t, "grant", "add", "--partner", partner.node, "--component", "hutong/*", "--dataset", "demo#*")
	data, err := filepath.Abs(filepath.Join(root, "testdata", "breast"))
	require.NoError(t, err)
	upload[0] = filepath.Join(data, upload[0])
	p.hutong(t, append([]string{"data", "upload", "--namespace", "demo", "--id", "id", "--partitions", "4",
		"--file"}, upload...)...)
}

// state returns the state of a job, or "".
func (p party) state(t *testing.T, jobID string) string {
	t.Helper()
	out, err := p.command("job", "list").CombinedOutput()
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(out)) {
		if fields := strings.Fields(line); len(fields) > 1 && fields[0] == jobID {
			return fields[1]
		}
	}

	return ""
}

// requireSuccess waits for the end of a job.
func (p party) requireSuccess(t *testing.T, jobID string) {
	t.Helper()
	var state string
	require.Eventually(t, func() bool {
		state = p.state(t, jobID)
		return state == "SUCCESS" || state == "FAILED" || state == "STOPPED"
	}, 6*time.Minute, time.Second, "job %s of %s has not ended", jobID, p.namespace)
	if state != "SUCCESS" {
		out, _ := p.command("job", "show", jobID).CombinedOutput()
		t.Fatalf("job %s of %s: %s\n%s", jobID, p.namespace, state, out)
	}
}

// pods returns the pods of the party itself, without that of the migration.
func (p party) pods(t *testing.T) []corev1.Pod {
	t.Helper()
	list, err := p.admin.CoreV1().Pods(p.namespace).List(t.Context(), metav1.ListOptions{
		LabelSelector: "app.kubernetes.io/component!=migrate"})
	require.NoError(t, err)

	return list.Items
}

// describe logs the states and the last lines of all pods.
func (p party) describe(t *testing.T) {
	for _, namespace := range []string{p.namespace, p.namespace + "-tasks"} {
		ctx := t.Context()
		if ctx.Err() != nil { // the test has ended
			ctx = contextOfCleanup()
		}
		list, err := p.admin.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{})
		if err != nil {
			t.Log(err)
			continue
		}
		lines := int64(25)
		for _, pod := range list.Items {
			options := &corev1.PodLogOptions{TailLines: &lines}
			text, err := p.admin.CoreV1().Pods(namespace).GetLogs(pod.Name, options).DoRaw(ctx)
			t.Logf("%s/%s is %s %v %v\n%s %v", namespace, pod.Name, pod.Status.Phase, pod.Status.Conditions,
				pod.Status.ContainerStatuses, text, err)
		}
		events, err := p.admin.CoreV1().Events(namespace).List(ctx, metav1.ListOptions{})
		if err != nil {
			continue
		}
		for _, e := range events.Items {
			if e.Type == corev1.EventTypeWarning {
				t.Logf("%s: %s %s", e.InvolvedObject.Name, e.Reason, e.Message)
			}
		}
	}
}
