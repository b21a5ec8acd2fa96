package cluster

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

func contextOfCleanup() context.Context { return context.Background() }

// TestTwoPartiesByTheChart installs two parties with two transports each, which become partners and train the
// model of the reference job. Network policies let their pods do so, and others reach nothing. Then one party
// loses the transport of a running job, and that of another job is drained at the other party. At last both
// parties are upgraded while jobs run, and while others are submitted. Every pod of the parties is replaced,
// and every job succeeds.
func TestTwoPartiesByTheChart(t *testing.T) {
	c := openCluster(t)
	a := c.install(t, "TRY0000000000000A", "bank-a", "bank-b", 100)
	b := c.install(t, "TRY0000000000000B", "bank-b", "bank-a", 101)

	invited := a.hutong(t, "partner", "invite", b.node)
	at := strings.Index(invited, "hutong-invitation-")
	require.GreaterOrEqual(t, at, 0, invited)
	b.soon(t, "partner", "accept", strings.Fields(invited[at:])[0], "--fingerprint", a.fingerprint(t))
	a.soon(t, "partner", "accept", b.node, "--fingerprint", b.fingerprint(t))
	a.prepare(t, b, "guest.csv", "--name", "breast_guest", "--label", "y")
	b.prepare(t, a, "host.csv", "--name", "breast_host")
	t.Log(a.soon(t, "job", "probe", b.node))

	job, err := os.ReadFile(filepath.Join(root, "deploy", "demo", "job.json"))
	require.NoError(t, err)
	a.write(t, "job.json", strings.NewReplacer("JG0100001100000010", a.node, "JG0110017800000000", b.node).
		Replace(string(job)))
	submit := func() string {
		lines := strings.Fields(a.hutong(t, "job", "submit", "job.json"))
		return lines[len(lines)-1]
	}
	began := time.Now()
	first := submit()
	a.requireSuccess(t, first)
	b.requireSuccess(t, first)
	t.Logf("the reference job took %s", time.Since(began).Round(time.Second))

	a.requirePolicies(t)
	b.requirePolicies(t)

	for _, disturb := range []func(*testing.T, string){a.loseTransport, b.drainTransport} {
		began := time.Now()
		id := submit()
		disturb(t, id)
		a.requireSuccess(t, id)
		b.requireSuccess(t, id)
		t.Logf("the job took %s", time.Since(began).Round(time.Second))
	}

	running := []string{submit(), submit()}
	a.awaitTask(t)
	b.awaitTask(t)
	before := map[types.UID]bool{}
	for _, p := range []party{a, b} {
		for _, pod := range p.pods(t) {
			before[pod.UID] = true
		}
	}
	require.Len(t, before, 2*processes)
	var upgrades sync.WaitGroup
	for _, p := range []party{a, b} {
		upgrades.Go(func() { p.helm(t, "--set", "config.log.level=debug") })
	}
	done := make(chan struct{})
	go func() { upgrades.Wait(); close(done) }()
	for n := 0; ; n++ {
		select {
		case <-done:
		case <-time.After(15 * time.Second):
			if n < 3 {
				running = append(running, submit())
			}
			continue
		}
		break
	}
	require.False(t, t.Failed())
	t.Logf("%d jobs run or were submitted during the upgrade", len(running))
	for _, id := range running {
		a.requireSuccess(t, id)
		b.requireSuccess(t, id)
	}
	for _, p := range []party{a, b} {
		require.Eventually(t, func() bool { return len(p.pods(t)) == processes }, time.Minute, time.Second,
			"%s has pods that do not end", p.namespace)
		for _, pod := range p.pods(t) {
			assert.False(t, before[pod.UID], "%s was not replaced", pod.Name)
			for _, status := range pod.Status.ContainerStatuses {
				assert.Zero(t, status.RestartCount, "%s has started again: %v", pod.Name,
					status.LastTerminationState)
			}
		}
	}
}

// taskRuns returns whether a pod of a task of the party runs.
func taskRuns(t *testing.T, p party) bool {
	list, err := p.admin.CoreV1().Pods(p.namespace+"-tasks").List(t.Context(), metav1.ListOptions{
		LabelSelector: "batch.kubernetes.io/job-name"})
	require.NoError(t, err)
	for _, pod := range list.Items {
		if pod.Status.Phase == corev1.PodRunning {
			return true
		}
	}

	return false
}
