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

// referenceTasks are the tasks of the reference job in their order, with two containers each.
var referenceTasks = []string{"intersect_rsa_1", "hetero_secureboost_1"}

// dockerBaseline runs the job's containers through the Docker API only.
type dockerBaseline struct {
	docker    *client.Client
	id        string
	waves     [][]container.InspectResponse // as the job had them
	callbacks callbackServer
	count     atomic.Int64
}

// newDockerBaseline copies the configurations of a job's containers. It replaces the places of their outputs,
// and has its own server receive the callbacks.
func newDockerBaseline(docker *client.Client, id, dir string,
	seen []container.InspectResponse) (*dockerBaseline, error) {
	a := &dockerBaseline{docker: docker, id: id}
	for _, task := range referenceTasks {
		var wave []container.InspectResponse
		for _, c := range seen {
			if c.Config.Labels["hutong.task"] == task {
				wave = append(wave, c)
			}
		}
		if len(wave) != 2 {
			return nil, fmt.Errorf("expected 2 containers of task %s, got %d", task, len(wave))
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
		// Without Hutong's labels, or Hutong would sweep them as orphans.
		for name := range c.Config.Labels {
			if name != "hutong.task" && strings.HasPrefix(name, "hutong.") {
				delete(c.Config.Labels, name)
			}
		}
		c.Config.Labels[runLabel] = id
		c.Config.Hostname = "" // Docker sets it to the container's id
	}
	return a, nil
}

// runLabel marks the containers of the baseline.
const runLabel = "bench"

// runContainer creates, starts, awaits and removes one container.
func (a *dockerBaseline) runContainer(ctx context.Context, c container.InspectResponse) error {
	name := fmt.Sprintf("hutong-bench-%s-%d", a.id, a.count.Add(1))
	made, err := a.docker.ContainerCreate(ctx, c.Config, c.HostConfig, nil, nil, name)
	if err != nil {
		return fmt.Errorf("failed to create container %s: %w", name, err)
	}
	ended, failed := a.docker.ContainerWait(ctx, made.ID, container.WaitConditionNextExit)
	if err := a.docker.ContainerStart(ctx, made.ID, container.StartOptions{}); err != nil {
		return fmt.Errorf("failed to start container %s: %w", name, err)
	}
	select {
	case end := <-ended:
		if end.StatusCode != 0 {
			return fmt.Errorf("container %s failed with exit code %d", name, end.StatusCode)
		}
	case err := <-failed:
		return fmt.Errorf("failed to wait for container %s: %w", name, err)
	}
	options := container.RemoveOptions{Force: true, RemoveVolumes: true}
	if err := a.docker.ContainerRemove(ctx, made.ID, options); err != nil {
		return fmt.Errorf("failed to remove container %s: %w", name, err)
	}
	return nil
}

// runJob runs the four containers of the job, two at a time.
func (a *dockerBaseline) runJob(ctx context.Context) (began, ended time.Time, err error) {
	began = time.Now()
	for _, wave := range a.waves {
		run := func(i int) error { return a.runContainer(ctx, wave[i]) }
		if err := forEachParallel(len(wave), len(wave), run); err != nil {
			return began, ended, err
		}
	}
	return began, time.Now(), nil
}

// runMany runs the containers of n jobs, as many at once as the parties' slots allow.
func (a *dockerBaseline) runMany(ctx context.Context, n int) (time.Duration, error) {
	all := slices.Concat(a.waves...)
	began := time.Now()
	err := forEachParallel(n*len(all), 2*slots,
		func(i int) error { return a.runContainer(ctx, all[i%len(all)]) })
	return time.Since(began), err
}

// forEachParallel calls f for 0 to n-1, a number of them at once, and returns the first error.
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

// callbackServer accepts callbacks and ignores them.
type callbackServer struct {
	servers []*http.Server
	byHost  map[string]string
}

// serve listens on the IP address that a container with these extra hosts reaches as the address's host, and
// returns the URL there.
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
		server := &http.Server{
			ReadHeaderTimeout: 10 * time.Second,
			Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", "application/json")
				_, _ = w.Write([]byte(`{"code":0,"message":"success"}`))
			}),
		}
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
