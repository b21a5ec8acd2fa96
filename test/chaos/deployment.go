package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"github.com/docker/docker/client"
	"gopkg.in/yaml.v3"

	"hutong/internal/image"
	"hutong/test/testenv/dockerd"
	"hutong/test/testenv/ports"
)

// world is three institutions and what they run on, each piece a process.
type deployment struct {
	dir       string
	bin       string // of hutong and provider
	processes map[string]*process
	links     map[string]*link
	parties   map[string]*party
	temporal  string // address of the Temporal server
	postgres  string // folder of its socket
	started   []*process
}

// party is one institution.
type party struct {
	name, node        string
	listen, transport string
	dir               string
	database          string
	dockerSocket      string // its Docker Engine's socket; empty: it runs processes
	dockerd           *dockerd.Daemon
	docker            *client.Client
	creations         *creationCounter
}

// bridge is the network interface of the party's Docker Engine. No container uses it: they are on the host's network.
func (p *party) bridge() string { return fmt.Sprintf("hc%d-%s", os.Getpid(), p.name) }

func (p *party) url() string { return "http://" + p.listen }

const providerImage = "hutong/provider:1.0.0"

// startDeployment starts everything, and waits until it serves.
func startDeployment(ctx context.Context, dir, bin string) (*deployment, error) {
	w := &deployment{dir: dir, bin: bin, processes: map[string]*process{}, links: map[string]*link{}, parties: map[string]*party{}}
	for _, d := range []string{dir, filepath.Join(dir, "logs")} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return nil, err
		}
	}
	if err := w.startPostgres(ctx); err != nil {
		return w, err
	}
	if err := w.startTemporal(ctx); err != nil {
		return w, err
	}
	for i, name := range parties {
		p := &party{name: name, node: fmt.Sprintf("JG01000010000000%02d", i+1), dir: filepath.Join(dir, name), creations: newCreationCounter()}
		var err error
		if p.listen, err = ports.Address(); err != nil {
			return w, err
		}
		if p.transport, err = ports.Address(); err != nil {
			return w, err
		}
		p.database = fmt.Sprintf("postgres://postgres@/%s?host=%s&sslmode=disable", name, w.postgres)
		if name == "host" {
			p.database = "sqlite://" + filepath.Join(p.dir, "hutong.db")
		}
		if err := os.MkdirAll(p.dir, 0o755); err != nil {
			return w, err
		}
		w.parties[name] = p
	}
	for _, name := range links {
		w.links[name] = newLink()
	}
	for name, live := range map[string]bool{"guest": false, "host": true} {
		if err := w.startDocker(ctx, w.parties[name], live); err != nil {
			return w, err
		}
	}
	for _, name := range parties {
		if err := w.startParty(ctx, w.parties[name]); err != nil {
			return w, err
		}
	}
	return w, nil
}

func (w *deployment) launch(name string, group bool, build func() *exec.Cmd, clean func()) *process {
	p := launch(w.dir, name, group, build, clean)
	w.processes[name] = p
	w.started = append(w.started, p)
	return p
}

// until waits for a condition that a process is to bring about.
func awaitReady(ctx context.Context, what string, p *process, ready func() bool) error {
	deadline := time.Now().Add(90 * time.Second)
	for !ready() {
		if time.Now().After(deadline) || ctx.Err() != nil {
			return fmt.Errorf("%s is not ready; its log ends:\n%s", what, p.tail())
		}
		time.Sleep(50 * time.Millisecond)
	}
	return nil
}

func canConnect(network, address string) bool {
	c, err := net.DialTimeout(network, address, time.Second)
	if err == nil {
		_ = c.Close()
	}
	return err == nil
}

func (w *deployment) startPostgres(ctx context.Context) error {
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin")
	if err != nil || len(found) == 0 {
		return fmt.Errorf("PostgreSQL's binaries are not installed in /usr/lib/postgresql")
	}
	bin := found[len(found)-1]
	w.postgres = filepath.Join(w.dir, "postgres")
	if err := os.MkdirAll(w.postgres, 0o755); err != nil {
		return err
	}
	var credential *syscall.Credential
	if os.Geteuid() == 0 { // it refuses to run as root
		u, err := user.Lookup("postgres")
		if err != nil {
			return err
		}
		uid, _ := strconv.Atoi(u.Uid)
		gid, _ := strconv.Atoi(u.Gid)
		credential = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
		if err := os.Chown(w.postgres, uid, gid); err != nil {
			return err
		}
	}
	as := func(program string, args ...string) *exec.Cmd {
		c := exec.Command(filepath.Join(bin, program), args...)
		c.Dir, c.SysProcAttr = w.postgres, &syscall.SysProcAttr{Credential: credential}
		return c
	}
	data := filepath.Join(w.postgres, "data")
	if out, err := as("initdb", "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync").CombinedOutput(); err != nil {
		return fmt.Errorf("initdb: %w: %s", err, out)
	}
	p := w.launch("postgres", true, func() *exec.Cmd {
		return as("postgres", "-D", data, "-k", w.postgres, "-c", "listen_addresses=", "-c", "fsync=off", "-c", "max_connections=200")
	}, func() { _ = os.Remove(filepath.Join(data, "postmaster.pid")) })
	socket := filepath.Join(w.postgres, ".s.PGSQL.5432")
	if err := awaitReady(ctx, "PostgreSQL", p, func() bool { return canConnect("unix", socket) }); err != nil {
		return err
	}
	for _, name := range []string{"guest", "third"} {
		var last error
		if err := awaitReady(ctx, "PostgreSQL", p, func() bool {
			out, err := as("psql", "-h", w.postgres, "-U", "postgres", "-c", "CREATE DATABASE "+name).CombinedOutput()
			if last = err; err != nil {
				last = fmt.Errorf("%w: %s", err, out)
			}
			return err == nil
		}); err != nil {
			return fmt.Errorf("%w (%w)", err, last)
		}
	}
	return nil
}

func (w *deployment) startTemporal(ctx context.Context) error {
	address, err := ports.Address()
	if err != nil {
		return err
	}
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		return err
	}
	w.temporal = address
	p := w.launch("temporal", false, func() *exec.Cmd {
		return exec.Command(filepath.Join(w.bin, "hutong"), "temporal", "--data-dir", filepath.Join(w.dir, "temporal"), "--port", port)
	}, nil)
	return awaitReady(ctx, "the Temporal server", p, func() bool { return canConnect("tcp", address) })
}

// startDocker starts a Docker Engine for one party alone: killing it harms nobody else.
func (w *deployment) startDocker(ctx context.Context, p *party, live bool) error {
	p.dockerd = &dockerd.Daemon{Dir: filepath.Join(w.dir, p.name+"-docker"), Bridge: p.bridge(), LiveRestore: live}
	p.dockerSocket = p.dockerd.Socket()
	if err := p.dockerd.Prepare(); err != nil {
		return err
	}
	proc := w.launch(p.name+" dockerd", false, p.dockerd.Command, p.dockerd.Clean)
	var err error
	if p.docker, err = client.NewClientWithOpts(client.WithHost("unix://"+p.dockerSocket), client.WithAPIVersionNegotiation()); err != nil {
		return err
	}
	if err := awaitReady(ctx, "the Docker Engine of "+p.name, proc, func() bool {
		_, err := p.docker.Ping(ctx)
		return err == nil
	}); err != nil {
		return err
	}
	if err := image.Load(ctx, p.docker, filepath.Join(w.bin, "provider"), providerImage); err != nil {
		return err
	}
	go p.creations.watch(ctx, p.docker, time.Now()) // from here on: the image's own build made containers too
	return nil
}

// link is the one between two parties.
func (w *deployment) link(a, b string) *link {
	if l := w.links[a+"-"+b]; l != nil {
		return l
	}
	return w.links[b+"-"+a]
}

func (w *deployment) startParty(ctx context.Context, p *party) error {
	routes := map[string]any{}
	for _, other := range w.parties {
		if other == p {
			continue
		}
		api, err := newProxy(w.link(p.name, other.name), other.listen)
		if err != nil {
			return err
		}
		channel, err := newProxy(w.link(p.name, other.name), other.transport)
		if err != nil {
			return err
		}
		routes[other.node] = map[string]any{"url": "http://" + api.addr, "transport_url": "http://" + channel.addr}
	}
	runner := map[string]any{"slots": slots, "stop_grace": "2s", "docker": map[string]any{"enabled": strconv.FormatBool(p.dockerSocket != ""), "host_network": true}}
	if p.dockerSocket == "" {
		runner["process"] = map[string]any{"allow": []string{filepath.Join(w.bin, "chaos")}}
	}
	config := map[string]any{"node_id": p.node, "listen": p.listen, "data_dir": p.dir,
		"transport": map[string]any{"listen": p.transport}, "temporal": map[string]any{"address": w.temporal},
		"database": map[string]any{"url": p.database}, "routes": routes, "runner": runner,
		"remote": map[string]any{"timeout": "5s"}, "jobs": limitsOf[p.name].settings()}
	text, err := yaml.Marshal(config)
	if err != nil {
		return err
	}
	file := filepath.Join(p.dir, "party.yaml")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		return err
	}
	hutong := func(args ...string) *exec.Cmd {
		c := exec.Command(filepath.Join(w.bin, "hutong"), append(args, "--config", file)...)
		c.Env = append(os.Environ(), "DOCKER_HOST=unix://"+p.dockerSocket)
		return c
	}
	if out, err := hutong("migrate").CombinedOutput(); err != nil {
		return fmt.Errorf("migrating %s: %w: %s", p.name, err, out)
	}
	var api *process
	for name, args := range map[string][]string{"api": {"api"}, "control": {"worker", "--only", "control"}, "runner": {"worker", "--only", "runner"}, "transport": {"transport"}} {
		proc := w.launch(p.name+" "+name, false, func() *exec.Cmd { return hutong(args...) }, nil)
		if name == "api" {
			api = proc
		}
	}
	if err := awaitReady(ctx, "the API of "+p.name, api, func() bool {
		resp, err := http.Get(p.url() + "/openapi.json")
		if err != nil {
			return false
		}
		_ = resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	}); err != nil {
		return err
	}
	return awaitReady(ctx, "the transport of "+p.name, w.processes[p.name+" transport"], func() bool { return canConnect("tcp", p.transport) })
}

// stop stops everything, what was started last first.
func (w *deployment) stop() {
	for i := len(w.started) - 1; i >= 0; i-- {
		w.started[i].stop(20 * time.Second)
	}
	for _, p := range w.parties { // what a killed Docker Engine has left, if it has
		if p.dockerSocket != "" {
			p.dockerd.Remove()
		}
		dockerd.KillAll(p.dir)
	}
	dockerd.Unmount(w.dir)
}
