// Package k8s gives tests a Kubernetes cluster that was started for them: its administration, namespaces for
// parties, and the node's images and kubelet.
package k8s

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"

	"hutong/test/testenv"
)

// Cluster is a cluster, and what administers it.
type Cluster struct {
	Kubeconfig string
	Admin      *kubernetes.Clientset
}

// Open returns the cluster of an administrator's kubeconfig.
func Open(kubeconfig string) (Cluster, error) {
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return Cluster{}, err
	}
	config.QPS = -1
	admin, err := kubernetes.NewForConfig(config)

	return Cluster{kubeconfig, admin}, err
}

// Namespace creates a namespace with the objects of the manifest for a party, and a kubeconfig of that
// party.
func (c Cluster) Namespace(t testing.TB) (kubeconfig, namespace string) {
	t.Helper()
	ctx := t.Context()
	namespace = "test-" + strings.ToLower(rand.Text())
	manifest, err := os.ReadFile(filepath.Join(testenv.Root(t), "deploy", "kubernetes", "rbac.yaml"))
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
		c.create(t, ctx, raw, namespace)
	}
	require.Equal(t, 6, created)
	// The controller that creates it runs only in a cluster with a node.
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "default"}}
	_, err = c.Admin.CoreV1().
		ServiceAccounts(namespace).
		Create(ctx, account, metav1.CreateOptions{})
	if !apierrors.IsAlreadyExists(err) {
		require.NoError(t, err)
	}
	config, err := clientcmd.LoadFromFile(c.Kubeconfig)
	require.NoError(t, err)
	config.AuthInfos["admin"].Impersonate = "system:serviceaccount:" + namespace + ":hutong"
	config.Contexts["test"].Namespace = namespace
	kubeconfig = filepath.Join(t.TempDir(), "kubeconfig")
	require.NoError(t, clientcmd.WriteToFile(*config, kubeconfig))
	return kubeconfig, namespace
}

// create creates one object of the manifest in a namespace.
func (c Cluster) create(t testing.TB, ctx context.Context, raw map[string]any, namespace string) {
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
		_, err = c.Admin.CoreV1().Namespaces().Create(ctx, &o, metav1.CreateOptions{})
	case "ServiceAccount":
		var o corev1.ServiceAccount
		read(&o)
		o.Namespace = namespace
		_, err = c.Admin.CoreV1().ServiceAccounts(namespace).Create(ctx, &o, metav1.CreateOptions{})
	case "Role":
		var o rbacv1.Role
		read(&o)
		o.Namespace = namespace
		_, err = c.Admin.RbacV1().Roles(namespace).Create(ctx, &o, metav1.CreateOptions{})
	case "RoleBinding":
		var o rbacv1.RoleBinding
		read(&o)
		o.Namespace, o.Subjects[0].Namespace = namespace, namespace
		_, err = c.Admin.RbacV1().RoleBindings(namespace).Create(ctx, &o, metav1.CreateOptions{})
	case "ClusterRole":
		var o rbacv1.ClusterRole
		read(&o)
		o.Name += "-" + namespace
		_, err = c.Admin.RbacV1().ClusterRoles().Create(ctx, &o, metav1.CreateOptions{})
	case "ClusterRoleBinding":
		var o rbacv1.ClusterRoleBinding
		read(&o)
		o.Name, o.RoleRef.Name = o.Name+"-"+namespace, o.RoleRef.Name+"-"+namespace
		o.Subjects[0].Namespace = namespace
		_, err = c.Admin.RbacV1().ClusterRoleBindings().Create(ctx, &o, metav1.CreateOptions{})
	default:
		t.Fatalf("the manifest contains an unexpected %v", kind)
	}
	require.NoError(t, err)
}
