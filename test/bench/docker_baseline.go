package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/client"
)

// The tasks of the job, in its order: one wave of two containers each.
var referenceTasks = []string{"intersect_rsa_1", "hetero_secureboost_1"}

// alone runs the job's containers by the Docker API alone.
type dockerBaseline struct {
	docker    *client.Client
	id        string
	waves     [][]container.InspectResponse // as the job had them
	callbacks callbackServer
	count     atomic.Int64
}

// newDockerBaseline takes the configurations of a job's containers as Docker tells them, but with places of its own for outputs,
// and a server of its own that takes the callbacks.
func newDockerBaseline(docker *client.Client, id, dir string, seen []container.InspectResponse) (*dockerBaseline, error) {
	a := &dockerBaseline{docker: docker, id: id}
	for _, task := range referenceTasks {
		var wave []container.InspectResponse
		for _, c := range seen {
			if c.Config.Labels["hutong.task"] == task {
				wave = append(wave, c)
			}
		}
		if len(wave) != 2 {
			return nil, fmt.Errorf("task %s had %d containers, not 2", task, len(wave))
		}
		a.waves = append(a.waves, wave)
	}
	for i, c := range slices.Concat(a.waves...) {
		for k := range c.HostConfig.Mounts {
			m := &c.HostConfig.Mounts[k]
			m.Source = filepath.Join(dir, "alone", fmt.Sprint(i), fmt.Sprint(k))
			if err := os.MkdirAll(m.Source, 0o755); err != nil {
				return nil, err
			}
		}
		for k, v := range c.Config.Env {
			address, ok := strings.CutPrefix(v, "system.callback=")
			if !ok {
				continue
			}
			own, err := a.callbacks.serve(address, c.HostConfig.ExtraHosts)
			if err != nil {
				return nil, err
			}
			c.Config.Env[k] = "system.callback=" + own
		}
		// No longer a run of Hutong's, which would remove what no job knows.
		for name := range c.Config.Labels {
			if name != "hutong.task" && strings.HasPrefix(name, "hutong.") {
				delete(c.Config.Labels, name)
			}
		}
		c.Config.Labels[runLabel] = id
		c.Config.Hostname = "" // Docker's own, after the container's id
	}
	return a, nil
}

// runLabel marks the containers of Docker alone.
const runLabel = "bench"

// one makes, starts, waits for and removes one container.
func (a *dockerBaseline) runContainer(ctx context.Context, c container.InspectResponse) error {
	name := fmt.Sprintf("hutong-bench-%s-%d", a.id, a.count.Add(1))
	made, err := a.docker.ContainerCreate(ctx, c.Config, c.HostConfig, nil, nil, name)
	if err != nil {
		return fmt.Errorf("create: %w", err)
	}
	ended, failed := a.docker.ContainerWait(ctx, made.ID, container.WaitConditionNextExit)
	if err := a.docker.ContainerStart(ctx, made.ID, container.StartOptions{}); err != nil {
		return fmt.Errorf("start: %w", err)
	}
	select {
	case end := <-ended:
		if end.StatusCode != 0 {
			return fmt.Errorf("container %s: exit code %d", name, end.StatusCode)
		}
	case err := <-failed:
		return fmt.Errorf("wait: %w", err)
	}
	if err := a.docker.ContainerRemove(ctx, made.ID, container.RemoveOptions{Force: true, RemoveVolumes: true}); err != nil {
		return fmt.Errorf("remove: %w", err)
	}
	return nil
}

// job runs the four containers in two waves.
func (a *dockerBaseline) runJob(ctx context.Context) (began, ended time.Time, err error) {
	began = time.Now()
	for _, wave := range a.waves {
		if err := forEachParallel(len(wave), len(wave), func(i int) error { return a.runContainer(ctx, wave[i]) }); err != nil {
			return began, ended, err
		}
	}
	return began, time.Now(), nil
}

// many runs the containers of n jobs, so many at once as the parties' slots allow.
func (a *dockerBaseline) runMany(ctx context.Context, n int) (time.Duration, error) {
	all := slices.Concat(a.waves...)
	began := time.Now()
	err := forEachParallel(n*len(all), 2*slots, func(i int) error { return a.runContainer(ctx, all[i%len(all)]) })
	return time.Since(began), err
}

// parallel calls f for 0 to n-1, some at once, and tells the first error.
func forEachParallel(n, atOnce int, f func(int) error) error {
	var next atomic.Int64
	errs := make(chan error, n)
	var group sync.WaitGroup
	for range atOnce {
		group.Go(func() {
			for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
				errs <- f(i)
			}
		})
	}
	group.Wait()
	close(errs)
	for err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// callbacks takes callbacks and does nothing with them.
type callbackServer struct {
	servers []*http.Server
	byHost  map[string]string
}

// serve listens where the host of address is reached by a container with those extra hosts, and gives the address there.
func (c *callbackServer) serve(address string, extraHosts []string) (string, error) {
	u, err := url.Parse(address)
	if err != nil {
		return "", err
	}
	ip := u.Hostname()
	for _, extra := range extraHosts {
		if name, at, ok := strings.Cut(extra, ":"); ok && name == u.Hostname() {
			ip = at
		}
	}
	port, ok := c.byHost[ip]
	if !ok {
		l, err := net.Listen("tcp", net.JoinHostPort(ip, "0"))
		if err != nil {
			return "", err
		}
		server := &http.Server{ReadHeaderTimeout: 10 * time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			_, _ = w.Write([]byte(`{"code":0,"message":"success"}`))
		})}
		go func() { _ = server.Serve(l) }()
		if c.byHost == nil {
			c.byHost = map[string]string{}
		}
		_, port, _ = net.SplitHostPort(l.Addr().String())
		c.byHost[ip] = port
		c.servers = append(c.servers, server)
	}
	u.Host = net.JoinHostPort(u.Hostname(), port)
	return u.String(), nil
}

func (c *callbackServer) close() {
	for _, s := range c.servers {
		_ = s.Close()
	}
}
