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
	"sync"
	"syscall"
	"time"

	"github.com/docker/docker/client"
	"gopkg.in/yaml.v3"

	"hutong/activities/driver/docker"
	"hutong/bfia"
	"hutong/internal/certs"
	"hutong/internal/image"
	"hutong/internal/partners"
	"hutong/test/testenv/apiclient"
	"hutong/test/testenv/dockerd"
	"hutong/test/testenv/ports"
)

// deployment is three parties and the servers that they use, each a process of its own.
type deployment struct {
	dir       string
	bin       string // of the provider, and of the servers that all parties use
	versions  *versions
	processes map[string]*process
	links     map[string]*link
	parties   map[string]*party
	postgres  string // folder of its socket
	root      string // folder of the repository
	// pg returns a command of PostgreSQL's programs.
	pg func(program string, args ...string) *exec.Cmd

	// restores is set if services of parties are restored. Then each party has its own Temporal server.
	restores     bool
	restoring    sync.Mutex // the next field
	restorations []*restoration
	authority    *certs.Authority
	caFile       string
	started      []*process
}

// party is one institution's deployment.
type party struct {
	name, node string
	// The addresses of its servers. Partners that end TLS at a gateway use the plain ones.
	listen, transport, containers, partners, partnerTransport, plain, plainTransport string
	// transports are those of a party that has several, behind the addresses for partners. A transport that
	// has more than one set of addresses takes the next one at each start.
	transports [][]transportAddresses
	// client is an administrator of the party, as whom all its clients call.
	client apiclient.Client

	// hutong returns a command of one of the versions with the party's configuration.
	hutong func(program string, args ...string) *exec.Cmd

	dir          string
	database     string
	temporal     string // address of its Temporal server
	temporalName string // name of that server's process
	dockerSocket string // socket of its Docker Engine; empty for a party that runs processes
	dockerd      *dockerd.Daemon
	docker       *client.Client
	creations    *creationCounter

	// services is locked while services of the party are restored, and for reading while something that is no
	// process of the party uses them.
	services sync.RWMutex
}

// bridge returns the default network interface of the party's Docker Engine. No container uses it: all are on
// the party's own network.
func (p *party) bridge() string { return fmt.Sprintf("hc%d-%s", os.Getpid(), p.name) }

func (p *party) url() string { return "https://" + p.listen }

const providerImage = "hutong/provider:1.0.0"

// startDeployment starts all processes, and waits until they serve.
func startDeployment(ctx context.Context, dir, bin, root, older string, restores bool) (*deployment, error) {
	d := &deployment{dir: dir, bin: bin, root: root, restores: restores,
		versions:  newVersions(filepath.Join(bin, "hutong"), older),
		processes: map[string]*process{}, links: map[string]*link{}, parties: map[string]*party{}}
	for _, d := range []string{dir, filepath.Join(dir, "logs")} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return nil, err
		}
	}
	var err error
	if d.authority, d.caFile, err = certs.OpenAuthority(filepath.Join(dir, "authority"),
		"chaos"); err != nil {
		return d, err
	}
	if err := d.startPostgres(ctx); err != nil {
		return d, err
	}
	var shared string // the address of the Temporal server that all parties share
	if !restores {
		if shared, err = d.startTemporal(ctx, temporalName); err != nil {
			return d, err
		}
	}
	for i, name := range parties {
		// The node id names the party's Docker network, whose interface is one of the machine.
		p := &party{name: name, node: fmt.Sprintf("JG01%010d%04d", os.Getpid(), i+1),
			dir: filepath.Join(dir, name), creations: newCreationCounter(), temporal: shared,
			temporalName: temporalName}
		if restores {
			p.temporalName = name + " " + temporalName
			if p.temporal, err = d.startTemporal(ctx, p.temporalName); err != nil {
				return d, err
			}
		}
		for _, address := range []*string{&p.listen, &p.transport, &p.containers, &p.partners,
			&p.partnerTransport, &p.plain, &p.plainTransport} {
			if *address, err = ports.Address(); err != nil {
				return d, err
			}
		}
		if name == partyWithTransports && older == "" { // older versions have one transport
			if err := p.balance(ctx); err != nil {
				return d, err
			}
		}
		p.database = fmt.Sprintf("postgres://postgres@/%s?host=%s&sslmode=disable", name, d.postgres)
		if name == "host" {
			p.database = "sqlite://" + filepath.Join(p.dir, "hutong.db")
		}
		if err := os.MkdirAll(p.dir, 0o755); err != nil {
			return d, err
		}
		if err := d.equip(p); err != nil {
			return d, fmt.Errorf("failed to make the keys of %s: %w", name, err)
		}
		d.parties[name] = p
	}
	for _, name := range links {
		d.links[name] = newLink()
		d.links[name].signed = proofs[name] != partners.MTLS
	}
	for name, live := range map[string]bool{"guest": false, "host": true} {
		if err := d.startDocker(ctx, d.parties[name], live); err != nil {
			return d, err
		}
	}
	for _, name := range parties {
		if err := d.startParty(ctx, d.parties[name]); err != nil {
			return d, err
		}
	}
	return d, nil
}

func (d *deployment) launch(name string, group bool, build func() *exec.Cmd, clean func()) *process {
	p := launch(d.dir, name, group, build, clean)
	d.processes[name] = p
	d.started = append(d.started, p)
	return p
}

// awaitReady polls a condition that depends on a process, and reports the end of its log when it does not
// hold in time.
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

func (d *deployment) startPostgres(ctx context.Context) error {
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin")
	if err != nil || len(found) == 0 {
		return fmt.Errorf(
			"found no PostgreSQL in /usr/lib/postgresql: install it (Debian: apt-get install postgresql)",
		)
	}
	bin := found[len(found)-1]
	d.postgres = filepath.Join(d.dir, "postgres")
	if err := os.MkdirAll(d.postgres, 0o755); err != nil {
		return err
	}
	as, err := postgresCommand(bin, d.postgres)
	if err != nil {
		return err
	}
	d.pg = as

	data := filepath.Join(d.postgres, "data")
	initdb := as("initdb", "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8",
		"--locale=C.UTF-8", "--no-sync")
	if out, err := initdb.CombinedOutput(); err != nil {
		return fmt.Errorf("failed to initialize PostgreSQL: %w: %s", err, out)
	}
	p := d.launch("postgres", true, func() *exec.Cmd {
		return as("postgres", "-D", data, "-k", d.postgres, "-c", "listen_addresses=", "-c", "fsync=off",
			"-c", "max_connections=200")
	}, func() { _ = os.Remove(filepath.Join(data, "postmaster.pid")) })
	socket := filepath.Join(d.postgres, ".s.PGSQL.5432")
	isUp := func() bool { return canConnect("unix", socket) }
	if err := awaitReady(ctx, "PostgreSQL", p, isUp); err != nil {
		return err
	}
	for _, name := range []string{"guest", "third"} {
		var last error
		if err := awaitReady(ctx, "PostgreSQL", p, func() bool {
			psql := as("psql", "-h", d.postgres, "-U", "postgres", "-c", "CREATE DATABASE "+name)
			out, err := psql.CombinedOutput()
			if last = err; err != nil {
				last = fmt.Errorf("%w: %s", err, out)
			}
			return err == nil
		}); err != nil {
			return fmt.Errorf("failed to create database %s: %w (%w)", name, err, last)
		}
	}
	return nil
}

// postgresCommand returns a function for PostgreSQL's commands. As root they run as the user postgres, who
// gets the folder.
func postgresCommand(bin, dir string) (func(program string, args ...string) *exec.Cmd, error) {
	var credential *syscall.Credential
	if os.Geteuid() == 0 { // PostgreSQL refuses to run as root
		u, err := user.Lookup("postgres")
		if err != nil {
			return nil, err
		}
		uid, _ := strconv.Atoi(u.Uid)
		gid, _ := strconv.Atoi(u.Gid)
		credential = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
		if err := os.Chown(dir, uid, gid); err != nil {
			return nil, err
		}
	}
	return func(program string, args ...string) *exec.Cmd {
		c := exec.Command(filepath.Join(bin, program), args...)
		c.Dir, c.SysProcAttr = dir, &syscall.SysProcAttr{Credential: credential}
		return c
	}, nil
}

// startTemporal starts a Temporal server, with a folder of the name of its process, and returns its address.
func (d *deployment) startTemporal(ctx context.Context, name string) (string, error) {
	address, err := ports.Address()
	if err != nil {
		return "", err
	}
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		return "", err
	}
	p := d.launch(name, false, func() *exec.Cmd {
		return exec.Command(filepath.Join(d.bin, "hutong"), "temporal", "--data-dir", d.temporalDir(name),
			"--port", port,
			// As after weeks of waiting, jobs that are queued continue with a new history.
			"--dynamic-config-value", "limit.historyCount.suggestContinueAsNew=60")
	}, nil)
	isUp := func() bool { return canConnect("tcp", address) }
	return address, awaitReady(ctx, "the Temporal server", p, isUp)
}

// temporalDir returns the folder of a Temporal server, by the name of its process.
func (d *deployment) temporalDir(name string) string { return filepath.Join(d.dir, name) }

// startDocker starts a Docker Engine for one party, so that killing it affects no other party.
func (d *deployment) startDocker(ctx context.Context, p *party, live bool) error {
	p.dockerd = &dockerd.Daemon{Dir: filepath.Join(d.dir, p.name+"-docker"), Bridge: p.bridge(),
		LiveRestore: live}
	p.dockerSocket = p.dockerd.Socket()
	if err := p.dockerd.Prepare(); err != nil {
		return err
	}
	proc := d.launch(p.name+" dockerd", false, p.dockerd.Command, p.dockerd.Clean)
	var err error
	if p.docker, err = client.NewClientWithOpts(client.WithHost("unix://"+p.dockerSocket),
		client.WithAPIVersionNegotiation()); err != nil {
		return err
	}
	if err := awaitReady(ctx, "the Docker Engine of "+p.name, proc, func() bool {
		_, err := p.docker.Ping(ctx)
		return err == nil
	}); err != nil {
		return err
	}
	if err := image.Load(ctx, p.docker, filepath.Join(d.bin, "provider"), providerImage); err != nil {
		return err
	}
	go p.creations.watch(ctx, p.docker, time.Now()) // from now on: building the image created containers too
	return nil
}

// link returns the link between two parties.
func (d *deployment) link(a, b string) *link {
	if l := d.links[a+"-"+b]; l != nil {
		return l
	}
	return d.links[b+"-"+a]
}

// configure writes a party's configuration file, with routes through proxies, and returns its path.
func (d *deployment) configure(p *party) (file string, err error) {
	routes := map[string]any{}
	for _, other := range d.parties {
		if other == p {
			continue
		}
		if routes[other.node], err = d.route(p, other); err != nil {
			return "", err
		}
	}

	runner := map[string]any{"slots": slots, "stop_grace": "2s",
		"docker": map[string]any{"enabled": strconv.FormatBool(p.dockerSocket != "")}}
	if p.dockerSocket == "" {
		runner["unsafe"] = true // the process driver isolates nothing
		runner["process"] = map[string]any{"allow": []string{filepath.Join(d.bin, "chaos")}}
	}
	transport := map[string]any{"listen": p.transport, "partner_listen": p.partnerTransport,
		"partner_plain_listen": p.plainTransport}
	if len(p.transports) > 0 {
		transport["several"] = true
	}
	text, err := yaml.Marshal(map[string]any{
		"node_id": p.node, "listen": p.listen, "data_dir": p.dir,
		"security":   map[string]any{"mode": "strict"},
		"tls":        map[string]any{"cert_file": p.clientCertificate(), "key_file": p.clientCertificate()},
		"containers": map[string]any{"listen": p.containers},
		"partners": map[string]any{"listen": p.partners, "plain_listen": p.plain,
			"tls": map[string]any{"cert_file": p.certificate(), "key_file": p.certificate(),
				"ca_file": d.caFile}},
		"transport": transport,
		"temporal": map[string]any{"address": p.temporal,
			"encryption": map[string]any{"keys_dir": p.keysDir()}},
		"database": map[string]any{"url": p.database},
		"routes":   routes, "runner": runner,
		"remote": d.remote(),
		"jobs":   limitsOf[p.name].settings(),
	})
	if err != nil {
		return "", err
	}
	file = filepath.Join(p.dir, "party.yaml")
	return file, os.WriteFile(file, text, 0o600)
}

// remote returns the section remote of a party's configuration. A party whose whole set was restored
// remembers nothing of some jobs, so their schedulers only give it up.
func (d *deployment) remote() map[string]any {
	if d.restores {
		return map[string]any{"timeout": "5s", "give_up_after": "2m"}
	}
	return map[string]any{"timeout": "5s"}
}

// startParty migrates a party's database, starts its processes and waits until they serve.
func (d *deployment) startParty(ctx context.Context, p *party) error {
	file, err := d.configure(p)
	if err != nil {
		return err
	}
	p.hutong = func(program string, args ...string) *exec.Cmd {
		c := exec.Command(program, append(args, "--config", file)...)
		c.Env = append(os.Environ(), "DOCKER_HOST=unix://"+p.dockerSocket)
		return c
	}
	first := func(args ...string) *exec.Cmd { return p.hutong(d.versions.first(), args...) }
	if out, err := first("migrate").CombinedOutput(); err != nil {
		return fmt.Errorf("failed to migrate the database of %s: %w: %s", p.name, err, out)
	}
	if p.client, err = d.newClient(first); err != nil {
		return fmt.Errorf("failed to create a token at %s: %w", p.name, err)
	}
	var api *process
	commands := map[string][]string{"api": {"api"}, "control": {"worker", "--only", "control"},
		"runner": {"worker", "--only", "runner"}, "transport": {"transport"}}
	if len(p.transports) > 0 {
		delete(commands, "transport")
	}
	for part, args := range commands {
		name := p.name + " " + part
		proc := d.launch(name, false, func() *exec.Cmd { return p.hutong(d.versions.of(name), args...) }, nil)
		if part == "api" {
			api = proc
		}
	}
	d.launchTransports(p)
	if err := awaitReady(ctx, "the API of "+p.name, api, func() bool {
		return call(ctx, p, http.MethodGet, bfia.PathReady, nil, nil) == nil
	}); err != nil {
		return err
	}
	if len(p.transports) > 0 {
		return d.awaitTransports(ctx, p)
	}
	return awaitReady(ctx, "the transport of "+p.name, d.processes[p.name+" transport"],
		func() bool { return canConnect("tcp", p.transport) })
}

// stop stops everything in the reverse order of the starts.
func (d *deployment) stop() {
	for i := len(d.started) - 1; i >= 0; i-- {
		for _, p := range d.parties {
			if d.started[i] == d.processes[p.name+" dockerd"] {
				p.removeNetwork()
			}
		}
		d.started[i].stop(20 * time.Second)
	}
	for _, p := range d.parties { // a killed Docker Engine may leave containers and mounts
		if p.dockerSocket != "" {
			p.dockerd.Remove()
		}
		dockerd.KillAll(p.dir)
	}
	dockerd.Unmount(d.dir)
}

// removeNetwork removes the party's Docker network, with its interface and its rules on this machine, when
// the party has stopped. A Docker Engine that just restarts gets some time.
func (p *party) removeNetwork() {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	driver, err := docker.New(docker.Options{NodeID: p.node, Host: "unix://" + p.dockerSocket})
	if err == nil {
		defer func() { _ = driver.Close() }()
		for err = driver.RemoveNetwork(ctx); err != nil; err = driver.RemoveNetwork(ctx) {
			if !waitUntil(ctx, time.Now().Add(200*time.Millisecond)) {
				break
			}
		}
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "failed to remove the network of %s: %v\n", p.name, err)
	}
}
