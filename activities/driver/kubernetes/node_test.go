package kubernetes_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/informers"
	clientset "k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
)

const (
	progImage    = "hutong-driver-test:prog"    // the fake node runs it
	manualImage  = "hutong-driver-test:manual"  // scheduled, but not run
	pendingImage = "hutong-driver-test:pending" // not scheduled
)

// fakeNode replaces the scheduler and one node's kubelet. It binds pods, runs their command as the first
// process of a PID namespace, reports their status and serves their logs. It has one image, and no
// containers, cgroups, volumes or probes.
type fakeNode struct {
	client *clientset.Clientset
	mu     sync.Mutex
	pods   map[types.UID]*nodePod
}

type nodePod struct {
	pod    *corev1.Pod
	cmd    *exec.Cmd
	kill   time.Time // when it is killed; set when it is deleted
	log    *nodeLog
	exited chan struct{}
}

const nodeName = "fake-node"

func startNode(client *clientset.Clientset) (*fakeNode, error) {
	n := &fakeNode{client: client, pods: map[types.UID]*nodePod{}}
	server := httptest.NewUnstartedServer(http.HandlerFunc(n.serveLog))
	server.TLS = &tls.Config{}
	server.StartTLS()
	at, err := url.Parse(server.URL)
	if err != nil {
		return nil, err
	}
	port, err := strconv.Atoi(at.Port())
	if err != nil {
		return nil, err
	}
	ctx := context.Background()
	node, err := client.CoreV1().
		Nodes().
		Create(ctx, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: nodeName}}, metav1.CreateOptions{})
	if err != nil {
		return nil, err
	}
	node.Spec.Taints = nil // the API server marks a new node as not ready
	if node, err = client.CoreV1().Nodes().Update(ctx, node, metav1.UpdateOptions{}); err != nil {
		return nil, err
	}
	node.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: "127.0.0.1"}}
	node.Status.DaemonEndpoints.KubeletEndpoint.Port = int32(port)
	node.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}}
	node.Status.Allocatable = corev1.ResourceList{
		corev1.ResourceCPU:              resource.MustParse("3500m"),
		corev1.ResourceMemory:           resource.MustParse("7Gi"),
		corev1.ResourceEphemeralStorage: resource.MustParse("90Gi"),
		"nvidia.com/gpu":                resource.MustParse("4"),
		corev1.ResourcePods:             resource.MustParse("110"),
	}
	node.Status.Capacity = node.Status.Allocatable
	if _, err := client.CoreV1().Nodes().UpdateStatus(ctx, node, metav1.UpdateOptions{}); err != nil {
		return nil, err
	}
	factory := informers.NewSharedInformerFactory(client, 0)
	_, err = factory.Core().V1().Pods().Informer().AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(o any) { n.handle(o.(*corev1.Pod)) },
		UpdateFunc: func(_, o any) { n.handle(o.(*corev1.Pod)) },
	})
	if err != nil {
		return nil, err
	}
	factory.Start(ctx.Done())
	return n, nil
}

func (n *fakeNode) handle(pod *corev1.Pod) {
	n.mu.Lock()
	defer n.mu.Unlock()
	p := n.pods[pod.UID]
	image := pod.Spec.Containers[0].Image
	switch {
	case pod.Spec.NodeName == "":
		if image != pendingImage && pod.DeletionTimestamp == nil {
			go func() {
				_ = n.client.CoreV1().Pods(pod.Namespace).Bind(context.Background(), &corev1.Binding{
					ObjectMeta: metav1.ObjectMeta{
						Name: pod.Name,
						UID:  pod.UID,
					}, Target: corev1.ObjectReference{Kind: "Node", Name: nodeName}}, metav1.CreateOptions{})
			}()
		}
	case image == manualImage:
	case p == nil:
		p = &nodePod{pod: pod, log: newNodeLog(), exited: make(chan struct{})}
		n.pods[pod.UID] = p
		go n.run(p)
	}
	if p != nil && pod.DeletionTimestamp != nil {
		n.end(p, pod)
	}
}

// end ends a pod that was deleted: by SIGTERM at once, and by SIGKILL at its deadline.
func (n *fakeNode) end(p *nodePod, pod *corev1.Pod) {
	kill := time.Now().Add(time.Duration(*pod.DeletionGracePeriodSeconds) * time.Second)
	first := p.kill.IsZero()
	if !first && !kill.Before(p.kill) {
		return
	}
	p.kill = kill
	go func() {
		if first && p.cmd != nil {
			_ = p.cmd.Process.Signal(syscall.SIGTERM)
		}
		timer := time.NewTimer(time.Until(kill))
		defer timer.Stop()
		select {
		case <-p.exited:
		case <-timer.C:
			n.mu.Lock()
			if p.cmd != nil {
				_ = p.cmd.Process.Kill()
			}
			n.mu.Unlock()
			<-p.exited
		}
		zero := int64(0)
		_ = n.client.CoreV1().Pods(pod.Namespace).Delete(context.Background(), pod.Name,
			metav1.DeleteOptions{
				GracePeriodSeconds: &zero,
				Preconditions:      &metav1.Preconditions{UID: &pod.UID},
			})
		p.log.drop()
	}()
}

func (n *fakeNode) run(p *nodePod) {
	defer close(p.exited)

	container := p.pod.Spec.Containers[0]
	if container.Image != progImage {
		n.report(p, corev1.PodPending, corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{
			Reason: "ErrImagePull", Message: "no such image " + container.Image,
		}})
		p.log.end()
		return
	}

	began := metav1.Now()
	cmd, err := n.command(p, container)
	if err == nil {
		err = n.start(p, cmd)
	}
	if err != nil {
		p.log.end()
		n.report(p, corev1.PodFailed, corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{
			ExitCode: 128, Reason: "StartError", Message: "exec: " + err.Error(),
			StartedAt: metav1.Unix(0, 0), FinishedAt: metav1.Now(),
		}})
		return
	}

	running := &corev1.ContainerStateRunning{StartedAt: began}
	n.report(p, corev1.PodRunning, corev1.ContainerState{Running: running})
	_ = cmd.Wait()
	p.log.end()

	t := &corev1.ContainerStateTerminated{Reason: "Completed", StartedAt: began, FinishedAt: metav1.Now()}
	phase := corev1.PodSucceeded
	if status := cmd.ProcessState.Sys().(syscall.WaitStatus); status.Signaled() {
		t.ExitCode = 128 + int32(status.Signal())
	} else {
		t.ExitCode = int32(status.ExitStatus())
	}
	if t.ExitCode != 0 {
		phase, t.Reason = corev1.PodFailed, "Error"
	}
	n.report(p, phase, corev1.ContainerState{Terminated: t})
}

// start starts the command unless the pod was deleted.
func (n *fakeNode) start(p *nodePod, cmd *exec.Cmd) error {
	n.mu.Lock()
	defer n.mu.Unlock()

	if !p.kill.IsZero() {
		return errors.New("deleted before it started")
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	p.cmd = cmd

	return nil
}

// command returns a container's command, with its environment from the secrets that it references.
func (n *fakeNode) command(p *nodePod, container corev1.Container) (*exec.Cmd, error) {
	secrets := map[string]*corev1.Secret{}
	var env []string
	for _, v := range container.Env {
		if v.ValueFrom == nil {
			env = append(env, v.Name+"="+v.Value)
			continue
		}
		ref := v.ValueFrom.SecretKeyRef
		if secrets[ref.Name] == nil {
			secret, err := n.client.CoreV1().
				Secrets(p.pod.Namespace).
				Get(context.Background(), ref.Name, metav1.GetOptions{})
			if err != nil {
				return nil, err
			}
			secrets[ref.Name] = secret
		}
		value, ok := secrets[ref.Name].Data[ref.Key]
		if !ok {
			return nil, fmt.Errorf("the secret %s has no %s", ref.Name, ref.Key)
		}
		env = append(env, v.Name+"="+string(value))
	}
	var args []string
	for _, arg := range container.Args {
		args = append(args, strings.ReplaceAll(arg, "$$", "$"))
	}
	program := args[0]
	if program == "/prog" {
		program = prog.path
	}
	cmd := exec.Command(program, args[1:]...)
	cmd.Env, cmd.Stdout, cmd.Stderr = env, p.log, p.log
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID, Pdeathsig: syscall.SIGKILL}
	return cmd, nil
}

func (n *fakeNode) report(p *nodePod, phase corev1.PodPhase, state corev1.ContainerState) {
	err := setPodStatus(
		n.client,
		p.pod,
		corev1.PodStatus{Phase: phase, PodIP: "127.0.0.1", PodIPs: []corev1.PodIP{{IP: "127.0.0.1"}},
			ContainerStatuses: []corev1.ContainerStatus{{Name: "task", State: state}}},
	)
	if err != nil {
		p.log.mu.Lock()
		defer p.log.mu.Unlock()
		fmt.Fprintf(&p.log.b, "failed to report a status: %v\n",
			err) // without a timestamp, so that a test fails
	}
}

func setPodStatus(client *clientset.Clientset, pod *corev1.Pod, status corev1.PodStatus) error {
	body, err := json.Marshal(map[string]any{"metadata": map[string]any{"uid": pod.UID}, "status": status})
	if err != nil {
		return err
	}
	_, err = client.CoreV1().
		Pods(pod.Namespace).
		Patch(context.Background(), pod.Name, types.MergePatchType, body, metav1.PatchOptions{}, "status")
	return err
}

// serveLog serves GET /containerLogs/NAMESPACE/POD/CONTAINER as a kubelet does.
func (n *fakeNode) serveLog(w http.ResponseWriter, r *http.Request) {
	parts := strings.Split(strings.Trim(r.URL.Path, "/"), "/")
	if len(parts) != 4 || parts[0] != "containerLogs" || r.URL.Query().Get("timestamps") != "true" {
		http.Error(w, "unsupported request: "+r.URL.String(), http.StatusNotFound)
		return
	}
	n.mu.Lock()
	var found *nodePod
	for _, p := range n.pods {
		if p.pod.Namespace == parts[1] && p.pod.Name == parts[2] {
			found = p
		}
	}
	n.mu.Unlock()
	if found == nil {
		http.Error(w, "no such pod", http.StatusNotFound)
		return
	}
	found.log.serve(r.Context(), w, r.URL.Query().Get("follow") == "true")
}

// nodeLog is a container's log as a kubelet serves it: each line after its time, in the node's own time zone.
type nodeLog struct {
	mu      sync.Mutex
	b       bytes.Buffer
	midLine bool
	ended   bool
	changed chan struct{}
}

func newNodeLog() *nodeLog { return &nodeLog{changed: make(chan struct{})} }

var nodeZone = time.FixedZone("", 8*3600)

func (l *nodeLog) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for line := range bytes.Lines(b) {
		if !l.midLine {
			l.b.WriteString(time.Now().In(nodeZone).Format("2006-01-02T15:04:05.000000000Z07:00") + " ")
		}
		l.b.Write(line)
		l.midLine = !bytes.HasSuffix(line, []byte("\n"))
	}
	l.signal()
	return len(b), nil
}

func (l *nodeLog) signal() { close(l.changed); l.changed = make(chan struct{}) }

func (l *nodeLog) end() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ended = true
	l.signal()
}

func (l *nodeLog) drop() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.b = bytes.Buffer{}
}

func (l *nodeLog) serve(ctx context.Context, w io.Writer, follow bool) {
	for at := 0; ; {
		l.mu.Lock()
		text := bytes.Clone(l.b.Bytes()[min(at, l.b.Len()):])
		ended, changed := l.ended, l.changed
		l.mu.Unlock()
		if _, err := w.Write(text); err != nil {
			return
		}
		w.(http.Flusher).Flush()
		at += len(text)
		if ended || !follow {
			return
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return
		}
	}
}
