package kubernetes_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/yaml"
	clientset "k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"hutong/activities/driver"
	"hutong/activities/driver/drivertest"
	"hutong/activities/driver/kubernetes"
)

// k8s is the control plane that the tests share. The first test that needs it starts it. It exits when the
// test binary closes its pipe.
var k8s struct {
	once       sync.Once
	err        error
	kubeconfig string
	admin      *clientset.Clientset
	node       *fakeNode
	stop       func()
}

// needK8s starts the control plane, or skips the test.
func needK8s(t *testing.T) {
	program := os.Getenv("HUTONG_TEST_K8S")
	if program == "" {
		t.Skip("HUTONG_TEST_K8S names no control plane; run make test-k8s")
	}
	k8s.once.Do(func() { k8s.err = startK8s(program) })
	require.NoError(t, k8s.err)
}

func startK8s(program string) error {
	dir, err := os.MkdirTemp("", "driver-k8s-")
	if err != nil {
		return err
	}
	cluster := exec.Command(program, dir)
	logFile, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		return err
	}
	cluster.Stdout, cluster.Stderr = logFile, logFile
	input, err := cluster.StdinPipe()
	if err != nil {
		return err
	}
	if err := cluster.Start(); err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- cluster.Wait() }()
	k8s.stop = func() {
		_ = input.Close()
		<-ended
		_ = os.RemoveAll(dir)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "ready")); err == nil {
			break
		}
		select {
		case err := <-ended:
			text, _ := os.ReadFile(logFile.Name())
			return &exec.Error{Name: string(text[max(0, len(text)-2000):]), Err: err}
		case <-time.After(50 * time.Millisecond):
		}
	}
	k8s.kubeconfig = filepath.Join(dir, "kubeconfig")
	config, err := clientcmd.BuildConfigFromFlags("", k8s.kubeconfig)
	if err != nil {
		return err
	}
	config.QPS = -1
	if k8s.admin, err = clientset.NewForConfig(rest.CopyConfig(config)); err != nil {
		return err
	}
	k8s.node, err = startNode(k8s.admin)
	return err
}

// k8sNamespace creates a namespace with the objects of the manifest for a party, and a kubeconfig of that
// party.
func k8sNamespace(t *testing.T) (kubeconfig, namespace string) {
	needK8s(t)
	ctx := t.Context()
	namespace = "test-" + strings.ToLower(rand.Text())
	manifest, err := os.ReadFile("../../../deploy/kubernetes/rbac.yaml")
	require.NoError(t, err)
	documents := yaml.NewYAMLOrJSONDecoder(bytes.NewReader(manifest), 4096)
	created := 0
	for ; ; created++ {
		var raw map[string]any
		err := documents.Decode(&raw)
		if err == io.EOF {
			break
		}
		require.NoError(t, err)
		createManifest(t, ctx, raw, namespace)
	}
	require.Equal(t, 6, created)
	// The controller that creates it does not run here.
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "default"}}
	_, err = k8s.admin.CoreV1().
		ServiceAccounts(namespace).
		Create(ctx, account, metav1.CreateOptions{})
	require.NoError(t, err)
	config, err := clientcmd.LoadFromFile(k8s.kubeconfig)
	require.NoError(t, err)
	config.AuthInfos["admin"].Impersonate = "system:serviceaccount:" + namespace + ":hutong"
	config.Contexts["test"].Namespace = namespace
	kubeconfig = filepath.Join(t.TempDir(), "kubeconfig")
	require.NoError(t, clientcmd.WriteToFile(*config, kubeconfig))
	return kubeconfig, namespace
}

func createManifest(t *testing.T, ctx context.Context, raw map[string]any, namespace string) {
	read := func(into any) {
		body, err := json.Marshal(raw)
		require.NoError(t, err)
		require.NoError(t, yaml.UnmarshalStrict(body, into))
	}
	var err error
	switch kind := raw["kind"]; kind {
	case "Namespace":
		var o corev1.Namespace
		read(&o)
		o.Name = namespace
		_, err = k8s.admin.CoreV1().Namespaces().Create(ctx, &o, metav1.CreateOptions{})
	case "ServiceAccount":
		var o corev1.ServiceAccount
		read(&o)
		o.Namespace = namespace
		_, err = k8s.admin.CoreV1().ServiceAccounts(namespace).Create(ctx, &o, metav1.CreateOptions{})
	case "Role":
		var o rbacv1.Role
		read(&o)
		o.Namespace = namespace
		_, err = k8s.admin.RbacV1().Roles(namespace).Create(ctx, &o, metav1.CreateOptions{})
	case "RoleBinding":
		var o rbacv1.RoleBinding
		read(&o)
		o.Namespace, o.Subjects[0].Namespace = namespace, namespace
		_, err = k8s.admin.RbacV1().RoleBindings(namespace).Create(ctx, &o, metav1.CreateOptions{})
	case "ClusterRole":
		var o rbacv1.ClusterRole
		read(&o)
		o.Name += "-" + namespace
		_, err = k8s.admin.RbacV1().ClusterRoles().Create(ctx, &o, metav1.CreateOptions{})
	case "ClusterRoleBinding":
		var o rbacv1.ClusterRoleBinding
		read(&o)
		o.Name, o.RoleRef.Name = o.Name+"-"+namespace, o.RoleRef.Name+"-"+namespace
		o.Subjects[0].Namespace = namespace
		_, err = k8s.admin.RbacV1().ClusterRoleBindings().Create(ctx, &o, metav1.CreateOptions{})
	default:
		t.Fatalf("the manifest contains an unexpected %v", kind)
	}
	require.NoError(t, err)
}

// TestDriver runs the suite.
func TestDriver(t *testing.T) {
	needK8s(t)
	drivertest.Run(t, newFixture)
}

func newFixture(t *testing.T) drivertest.Fixture {
	kubeconfig, _ := k8sNamespace(t)
	opts := kubernetes.Options{NodeID: "T" + rand.Text(), Kubeconfig: kubeconfig}
	another := func(t *testing.T) driver.Driver {
		d, err := kubernetes.New(opts)
		require.NoError(t, err)
		return d
	}

	return drivertest.Fixture{
		Driver: drivertest.RemoveAllAfter(t, another(t)), Another: another, Kubernetes: true,
		Spec: func(args ...string) driver.Spec {
			return driver.Spec{
				Name:    "Test_1.of-" + rand.Text(),
				Image:   progImage,
				Command: append([]string{"/prog"}, args...),
			}
		},
		MakeUnstartable: func(spec *driver.Spec) { spec.Command = []string{"/not there"} },

		// The programs run on this machine.
		Share: func(_ driver.Driver, _ *driver.Spec, dir string) string { return dir },
	}
}
