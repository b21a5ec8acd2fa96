package system

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/events"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/client"
	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"hutong/bfia"
	"hutong/internal/party"
)

// TestReferenceJobOnS3 runs the captured job in containers at two parties with a bucket each. The S3 server
// is on an address that no container reaches, and no container gets the server's password.
func TestReferenceJobOnS3(t *testing.T) {
	cli := dockerClient(t)
	address := os.Getenv("HUTONG_TEST_S3")
	if address == "" {
		t.Skip("HUTONG_TEST_S3 names no S3 server")
	}
	server, err := url.Parse(address)
	require.NoError(t, err)
	canary := server.Query().Get("password")
	require.NotEmpty(t, canary)
	pair := newPartyPair(t, func(cfg *party.Config) { onDocker(t, cfg); onBucket(cfg, server) })
	pair.guest.start()
	pair.host.start()
	registration := readVector(t, "provider_register.request.json")
	for _, n := range []*testParty{pair.guest, pair.host} {
		n.register(registration, bfia.DeviceDocker)
		n.upload("host.csv", "testspace", "test_host")
	}
	pair.guest.upload("guest.csv", "testspace", "test_guest")

	seen := watchEnvironments(t, cli)
	began := time.Now()
	jobID := pair.guest.submit(referenceJob(t, true))
	requireSuccess(t, pair.guest.awaitJob(jobID, 3*time.Minute, isFinished))
	requireSuccess(t, pair.host.awaitJob(jobID, time.Minute, isFinished))
	t.Logf("the reference job on S3 took %s", time.Since(began).Round(10*time.Millisecond))
	requireResults(t, pair.guest, pair.host, jobID)
	environments := seen()
	maps.DeleteFunc(environments, func(name, _ string) bool { return !strings.Contains(name, jobID) })
	require.Len(t, environments, 4, "two tasks at two parties")
	for name, environment := range environments {
		require.NotContains(t, environment, canary, name)
		require.Contains(t, environment, "system.storage=s3://hutong:", name)
		require.Contains(t, environment, "username="+name, "each container has a user of its own")
	}
	for _, n := range []*testParty{pair.guest, pair.host} {
		requireNoContainers(t, n, jobID, bfia.DeviceDocker)
	}
}

// onDocker makes a party run its containers on Docker only.
func onDocker(t *testing.T, cfg *party.Config) {
	cfg.Runner.Docker.Enabled, cfg.Runner.Process.Allow = party.SwitchOn, nil
	t.Cleanup(func() { removeNetwork(t, cfg.NodeID) })
}

// onBucket gives a party a new bucket of an S3 server.
func onBucket(cfg *party.Config, server *url.URL) {
	u := *server
	q := u.Query()
	q.Set("bucket", "hutong-"+strings.ToLower(rand.Text()))
	u.RawQuery = q.Encode()
	cfg.Storage.URL = party.Secret(u.String())
}

// watchEnvironments collects the environments of all containers of both parties, by name, until its result is
// called.
func watchEnvironments(t *testing.T, cli *client.Client) (stop func() map[string]string) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	all := map[string]string{}
	// Docker Engine repeats what happened since then, before it listens to this client.
	since := strconv.FormatInt(time.Now().Unix(), 10)
	created, failed := cli.Events(ctx, events.ListOptions{Since: since, Filters: filters.NewArgs(
		filters.Arg("type", string(events.ContainerEventType)), filters.Arg("event", "create"),
		filters.Arg("label", "hutong.node_id"))})
	var done sync.WaitGroup
	done.Go(func() {
		for {
			select {
			case <-failed: // also when ctx ends
				return
			case m := <-created:
				labels := m.Actor.Attributes
				if node := labels["hutong.node_id"]; node != guestNode && node != hostNode {
					continue
				}
				if full, err := cli.ContainerInspect(ctx, m.Actor.ID); err == nil {
					all[labels["hutong.container"]] = strings.Join(full.Config.Env, "\n")
				}
			}
		}
	})
	return func() map[string]string { cancel(); done.Wait(); return all }
}

// insider is a client in the network of a running container.
type insider struct {
	t           *testing.T
	environment map[string]string
	client      *http.Client
}

// inside returns a client in the network of the container of a part that runs at a party.
func inside(t *testing.T, cli *client.Client, jobID, role string) *insider {
	t.Helper()
	var found container.InspectResponse
	require.Eventually(t, func() bool {
		list, err := cli.ContainerList(t.Context(), container.ListOptions{Filters: filters.NewArgs(
			filters.Arg("label", "hutong.job_id="+jobID), filters.Arg("label", "hutong.role="+role))})
		require.NoError(t, err)
		if len(list) != 1 {
			return false
		}
		found, err = cli.ContainerInspect(t.Context(), list[0].ID)
		require.NoError(t, err)
		return found.State.Running
	}, time.Minute, 50*time.Millisecond, "no container of job %s, %s runs", jobID, role)
	in := &insider{t: t, environment: map[string]string{}}
	for _, line := range found.Config.Env {
		name, value, _ := strings.Cut(line, "=")
		in.environment[name] = value
	}
	gateway := ""
	for _, host := range found.HostConfig.ExtraHosts {
		gateway = strings.TrimPrefix(host, "hutong:")
	}
	pid := found.State.Pid
	in.client = &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: 16,
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			return dialInside(ctx, pid, network, strings.Replace(address, "hutong:", gateway+":", 1))
		}}}
	return in
}

// dialInside connects from the network of a process.
func dialInside(ctx context.Context, pid int, network, address string) (net.Conn, error) {
	runtime.LockOSThread() // it is never unlocked: the thread ends with its goroutine if it can't go back
	own, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		return nil, err
	}
	defer own.Close()
	other, err := os.Open(fmt.Sprintf("/proc/%d/ns/net", pid))
	if err != nil {
		return nil, err
	}
	defer other.Close()
	if err := unix.Setns(int(other.Fd()), unix.CLONE_NEWNET); err != nil {
		return nil, err
	}
	conn, err := (&net.Dialer{}).DialContext(ctx, network, address)
	if unix.Setns(int(own.Fd()), unix.CLONE_NEWNET) == nil {
		runtime.UnlockOSThread()
	}
	return conn, err
}

// post sends a request and returns the status and the body of its answer.
func (in *insider) post(url string, body any, headers ...string) (int, string) {
	in.t.Helper()
	text, err := json.Marshal(body)
	require.NoError(in.t, err)
	r, err := http.NewRequestWithContext(in.t.Context(), http.MethodPost, url, bytes.NewReader(text))
	require.NoError(in.t, err)
	r.Header.Set("Content-Type", "application/json")
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	answer, err := in.client.Do(r)
	require.NoError(in.t, err)
	defer func() { _ = answer.Body.Close() }()
	got, err := io.ReadAll(answer.Body)
	require.NoError(in.t, err)
	return answer.StatusCode, string(got)
}

// report sends a callback.
func (in *insider) report(task, role string, state bfia.TaskState, headers ...string) int {
	in.t.Helper()
	status, _ := in.post(in.environment["system.callback"],
		bfia.TaskReport{TaskID: task, Role: role, Status: state}, headers...)
	return status
}

// channel calls the transport.
func (in *insider) channel(op, session string, body map[string]any, headers ...string) (int, string) {
	in.t.Helper()
	return in.post("http://"+in.environment["system.transport"]+"/v1/interconn/chan/"+op, body,
		append(headers, "x-ptp-session-id", session, "x-ptp-target-node-id", guestNode)...)
}

// TestContainersReachTheirOwn attacks one job from a container of another one, in its network.
func TestContainersReachTheirOwn(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("to enter the network of a container needs root")
	}
	cli := dockerClient(t)
	server, _ := url.Parse(os.Getenv("HUTONG_TEST_S3"))
	pair := newPartyPair(t, func(cfg *party.Config) {
		onDocker(t, cfg)
		if server.Host != "" {
			onBucket(cfg, server)
		}
	})
	for _, n := range []*testParty{pair.guest, pair.host} {
		n.start()
		n.register(editJSON(t, sleepProvider(t), func(fields map[string]any) { fields["device"] = "docker" }),
			bfia.DeviceDocker)
	}
	long := sleepJob(t, 1, map[string]any{"s1": seconds(600)}, nil)
	victimJob, attackerJob := pair.guest.submit(long), pair.guest.submit(long)
	victim, attacker := inside(t, cli, victimJob, "guest.0"), inside(t, cli, attackerJob, "guest.0")
	own, other := attacker.environment, victim.environment

	// It reports its own part, and nothing else.
	task := own["config.task_id"]
	require.Equal(t, 200, attacker.report(task, "guest.0", bfia.TaskRunning))
	for name, status := range map[string]int{
		"another task": attacker.report(other["config.task_id"], "guest.0", bfia.TaskSuccess),
		"another role": attacker.report(task, "host.0", bfia.TaskSuccess),
		"with a stolen token": attacker.report(other["config.task_id"], "guest.0", bfia.TaskSuccess,
			"x-ptp-token", other["config.token"]),
	} {
		require.Equal(t, 403, status, name)
	}

	// It uses its own session; that of the other job stays whole.
	session, foreign := own["config.session_id"], other["config.session_id"]
	push := map[string]any{"topic": "t", "payload": []byte("secret")}
	pop := map[string]any{"topic": "t", "timeout": 1000}
	for in, id := range map[*insider]string{victim: foreign, attacker: session} {
		status, answer := in.channel("push", id, push)
		require.Equal(t, 200, status, answer)
		require.Contains(t, answer, "E0000000000")
	}
	token := other["config.token"]
	for _, headers := range [][]string{nil, {"x-ptp-token", token}, {"x-ptp-token", foreign},
		{"X_PTP_SESSION_ID", foreign}} {
		for _, op := range []string{"pop", "push", "peek", "release"} {
			status, answer := attacker.channel(op, foreign, pop, headers...)
			require.Equal(t, 403, status, "%s: %s", op, answer)
			require.NotContains(t, answer, "c2VjcmV0")
		}
	}
	for _, id := range []string{session, foreign} {
		status, answer := attacker.channel("release", id, map[string]any{}, "x-ptp-final", "true")
		require.Equal(t, 403, status, answer)
	}
	for in, id := range map[*insider]string{victim: foreign, attacker: session} {
		status, answer := in.channel("pop", id, pop)
		require.Equal(t, 200, status, answer)
		require.Contains(t, answer, "c2VjcmV0", "the message is still there")
	}

	if server.Host != "" {
		attackStorage(t, pair.guest, attacker, victim)
	}

	// A flood of callbacks leaves the job able to stop.
	callbacks := sync.WaitGroup{}
	for worker := range 8 {
		callbacks.Go(func() {
			for i := range 2500 {
				state := bfia.TaskRunning
				if (worker+i)%2 == 0 {
					state = bfia.TaskPending
				}
				attacker.report(task, "guest.0", state)
			}
		})
	}
	callbacks.Wait()
	pair.guest.mustRequest(http.MethodPost, bfia.PathPlatformStopAll,
		[]byte(`{"job_id":"`+attackerJob+`"}`), nil)
	pair.guest.awaitJob(attackerJob, time.Minute, func(s bfia.JobStatus) bool { return s.State.Terminal() })
	require.Equal(t, bfia.JobRunning, pair.guest.status(victimJob).State, "the victim is unharmed")
	pair.guest.mustRequest(http.MethodPost, bfia.PathPlatformStopAll,
		[]byte(`{"job_id":"`+victimJob+`"}`), nil)
	pair.guest.awaitJob(victimJob, time.Minute, func(s bfia.JobStatus) bool { return s.State.Terminal() })
}

// attackStorage tries to reach another run's objects, and the bucket.
func attackStorage(t *testing.T, guest *testParty, attacker, victim *insider) {
	t.Helper()
	guest.upload("guest.csv", "testspace", "test_guest")
	storage := func(in *insider, credentialsOf *insider) (*minio.Client, string) {
		u, err := url.Parse(credentialsOf.environment["system.storage"])
		require.NoError(t, err)
		c, err := minio.New(u.Host, &minio.Options{BucketLookup: minio.BucketLookupPath, MaxRetries: 1,
			Creds:     credentials.NewStaticV4(u.Query().Get("username"), u.Query().Get("password"), ""),
			Transport: in.client.Transport, Region: "us-east-1"})
		require.NoError(t, err)
		return c, u.Query().Get("bucket")
	}
	keyOf := func(in *insider) string {
		var out struct{ Namespace, Name string }
		for name, value := range in.environment {
			if strings.HasPrefix(name, "runtime.component.output.") {
				require.NoError(t, json.Unmarshal([]byte(value), &out))
			}
		}
		require.NotEmpty(t, out.Name)
		return out.Namespace + "/" + out.Name + "/part"
	}
	put := func(c *minio.Client, bucket, key string) error {
		_, err := c.PutObject(t.Context(), bucket, key, strings.NewReader("x"), 1, minio.PutObjectOptions{})
		return err
	}
	own, bucket := storage(attacker, attacker)
	others, _ := storage(victim, victim)
	stolen, _ := storage(attacker, victim)
	require.NoError(t, put(own, bucket, keyOf(attacker)))
	require.NoError(t, put(others, bucket, keyOf(victim)))
	for name, err := range map[string]error{
		"another's output":           put(own, bucket, keyOf(victim)),
		"with another's credentials": put(stolen, bucket, keyOf(victim)),
		"a dataset":                  put(own, bucket, "testspace/test_guest/data_0"),
		"a log":                      put(own, bucket, "_log/x/1"),
	} {
		require.Equal(t, http.StatusForbidden, minio.ToErrorResponse(err).StatusCode, "%s: %v", name, err)
	}
	for _, key := range []string{keyOf(victim), "testspace/test_guest/data_0"} {
		_, err := own.StatObject(t.Context(), bucket, key, minio.StatObjectOptions{})
		require.Equal(t, http.StatusForbidden, minio.ToErrorResponse(err).StatusCode, key)
	}
	for object := range own.ListObjectsIter(t.Context(), bucket, minio.ListObjectsOptions{Recursive: true}) {
		require.NoError(t, object.Err)
		require.Equal(t, keyOf(attacker), object.Key, "the list of the bucket holds the run's own objects")
	}
	for object := range own.ListObjectsIter(t.Context(), bucket,
		minio.ListObjectsOptions{Prefix: "testspace/", Recursive: true}) {
		require.Equal(t, "AccessDenied", minio.ToErrorResponse(object.Err).Code)
	}
	stat, err := others.StatObject(t.Context(), bucket, keyOf(victim), minio.StatObjectOptions{})
	require.NoError(t, err)
	require.EqualValues(t, 1, stat.Size)
}
