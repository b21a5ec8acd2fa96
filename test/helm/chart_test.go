package helm

import (
	"bufio"
	"bytes"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	monitoringv1 "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	"github.com/stretchr/testify/require"
	"helm.sh/helm/v4/pkg/chart/common"
	"helm.sh/helm/v4/pkg/chart/common/util"
	"helm.sh/helm/v4/pkg/chart/v2/loader"
	"helm.sh/helm/v4/pkg/engine"
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer/json"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/kubernetes/scheme"
	sigsyaml "sigs.k8s.io/yaml"
)

// Release and namespace of the rendered chart.
const (
	releaseName      = "bank-a"
	releaseNamespace = "party-a"
	name             = releaseName + "-hutong"
)

// object is an object of Kubernetes.
type object interface {
	runtime.Object
	metav1.Object
}

// root is the repository's folder.
var root = filepath.Join("..", "..")

// render returns what Helm makes of the chart with the values of a document, by template.
func render(t *testing.T, document []byte) (map[string]string, error) {
	t.Helper()
	chart, err := loader.Load(filepath.Join(root, "deploy", "helm", "hutong"))
	require.NoError(t, err)
	var values map[string]any
	require.NoError(t, sigsyaml.UnmarshalStrict(document, &values))
	release := common.ReleaseOptions{Name: releaseName, Namespace: releaseNamespace, Revision: 1,
		IsInstall: true}
	all, err := util.ToRenderValues(chart, values, release, nil)
	if err != nil {
		return nil, err
	}

	return engine.Render(chart, all)
}

// release is what the chart makes of one document of values.
type release struct {
	objects []object
	notes   string
}

// open renders the chart with a file of testdata. Each manifest is decoded strictly into its type.
func open(t *testing.T, file string) release {
	t.Helper()
	document, err := os.ReadFile(filepath.Join("testdata", file))
	require.NoError(t, err)

	return openDocument(t, document)
}

func openDocument(t *testing.T, document []byte) (r release) {
	t.Helper()
	files, err := render(t, document)
	require.NoError(t, err)
	known := runtime.NewScheme()
	require.NoError(t, scheme.AddToScheme(known))
	require.NoError(t, monitoringv1.AddToScheme(known))
	decoder := json.NewSerializerWithOptions(json.DefaultMetaFactory, known, known,
		json.SerializerOptions{Yaml: true, Strict: true})
	for file, text := range files {
		require.NotContains(t, text, "<no value>", file)
		if strings.HasSuffix(file, "NOTES.txt") {
			r.notes = text
			continue
		}
		if strings.HasSuffix(file, ".tpl") {
			continue
		}
		documents := yaml.NewYAMLReader(bufio.NewReader(strings.NewReader(text)))
		for {
			manifest, err := documents.Read()
			if err == io.EOF {
				break
			}
			require.NoError(t, err, file)
			if len(bytes.TrimSpace(manifest)) == 0 {
				continue
			}
			decoded, _, err := decoder.Decode(manifest, nil, nil)
			require.NoError(t, err, "%s: %s", file, manifest)
			o, ok := decoded.(object)
			require.True(t, ok, "%s: %T", file, decoded)
			r.objects = append(r.objects, o)
		}
	}

	return r
}

// all returns the objects of a type.
func all[T object](r release) (found []T) {
	for _, o := range r.objects {
		if o, ok := o.(T); ok {
			found = append(found, o)
		}
	}

	return found
}

// find returns the object of a type with a name.
func find[T object](t *testing.T, r release, name string) T {
	t.Helper()
	found := all[T](r)
	i := slices.IndexFunc(found, func(o T) bool { return o.GetName() == name })
	require.GreaterOrEqual(t, i, 0, "the chart has no %T %s", *new(T), name)

	return found[i]
}

// pods returns the templates of the pods of all processes by their names.
func (r release) pods() map[string]corev1.PodTemplateSpec {
	pods := map[string]corev1.PodTemplateSpec{}
	for _, d := range all[*appsv1.Deployment](r) {
		pods[strings.TrimPrefix(d.Name, name+"-")] = d.Spec.Template
	}
	for _, s := range all[*appsv1.StatefulSet](r) {
		pods[strings.TrimPrefix(s.Name, name+"-")] = s.Spec.Template
	}
	for _, j := range all[*batchv1.Job](r) {
		pods[strings.TrimPrefix(j.Name, name+"-")] = j.Spec.Template
	}

	return pods
}

// replicas returns the number of the pods of processes that may have several.
func (r release) replicas() map[string]int32 {
	found := map[string]int32{}
	for _, d := range all[*appsv1.Deployment](r) {
		found[strings.TrimPrefix(d.Name, name+"-")] = *d.Spec.Replicas
	}
	for _, s := range all[*appsv1.StatefulSet](r) {
		found[strings.TrimPrefix(s.Name, name+"-")] = *s.Spec.Replicas
	}

	return found
}

// processes are the names of the pods of a release.
var processes = []string{"api", "control", "migrate", "runner", "transport"}

// valueFiles are the files of values in testdata.
var valueFiles = []string{"least.yaml", "full.yaml", "single.yaml"}
