package main

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/docker/docker/api/types/build"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/client"

	"hutong/bfia"
	"hutong/test/interop/fateflow"
	"hutong/test/testenv/apiclient"
	"hutong/test/testenv/ports"
)

// peerTag is the provider's image whose containers sleep for a fifth of a second and then call back.
// FATE-Flow passes no arguments to containers, so the command is in the image. FATE-Flow records a task as
// running after it has started the container. When the callback comes earlier, it fails the job, so it can't
// run shorter tasks.
const (
	peerTag  = "hutong/bench-peer:1"
	peerFile = "FROM " + imageTag + "\nENV runtime.component.parameter.seconds=0.2\nCMD [\"Sleep\"]\n"
)

// How many times faster than FATE-Flow Hutong must be, with one job and with many.
const (
	minSpeedupOne  = 5
	minSpeedupMany = 6
)

// fateFlowPair is two FATE-Flow servers, a guest and a host, and the S3 server for their containers.
type fateFlowPair struct {
	guest, host *fateflow.Server
	dir         string
	processes   []*exec.Cmd
}

// measurePeer runs the reference job alternately on two FATE-Flow servers and on two parties of Hutong. Both
// run containers of the same image on the host network, as FATE-Flow does.
func measurePeer(ctx context.Context, o options, into *report) (err error) {
	docker, err := o.connectDocker(ctx)
	if err != nil || docker == nil {
		return errors.Join(err, errors.New("no Docker Engine answers, and FATE-Flow's containers need one"))
	}
	defer func() { _ = docker.Close() }()
	if err := loadPeerImage(ctx, docker); err != nil {
		return err
	}
	d, err := startDeployment(ctx, o, manySlots,
		"--host-network") // FATE-Flow does not limit its containers either
	if err != nil {
		return err
	}
	defer d.removeLeftovers(context.WithoutCancel(ctx), docker)
	defer d.stop()
	const provider = "unionpay"
	metadata := bfia.Metadata{Image: peerTag}
	if err := d.registerAndUpload(ctx, provider, bfia.DeviceDocker, metadata); err != nil {
		return err
	}
	document, err := d.referenceJob(provider)
	if err != nil {
		return err
	}
	p, err := startFateFlowPair(ctx, o, d)
	if p != nil {
		defer p.stop(context.WithoutCancel(ctx), docker)
	}
	if err != nil {
		return err
	}
	if _, _, err := d.runMany(ctx, document, 2); err != nil { // to warm up
		return err
	}
	if _, err := p.runMany(ctx, document, 1); err != nil {
		return err
	}
	c := into.addSection("The reference job, containers on the host network", "FATE-Flow 2.2.0")
	for _, n := range []int{1, 20} {
		where := breakdown{name: fmt.Sprintf("%d jobs at once", n)}
		bound, rounds := atMost(1.0/minSpeedupMany), 1
		if n == 1 {
			where.name, bound, rounds = "one job", atMost(1.0/minSpeedupOne), min(3, o.runs)
		}
		for range rounds {
			took, err := p.runMany(ctx, document, n)
			if err != nil {
				return err
			}
			where.baseline.add(took, nil)
			if took, _, err = d.runMany(ctx, document, n); err != nil {
				return err
			}
			where.hutong.add(took, nil)
			where.log(o)
		}
		f := compareMedians(where.name, where.hutong, where.baseline, bound)
		f.notes = append(f.notes, fmt.Sprintf("%.1f times faster", 1/f.ratio))
		c.add(f)
	}
	return nil
}

// loadPeerImage builds the image.
func loadPeerImage(ctx context.Context, docker *client.Client) error {
	context, err := dockerfile(peerFile)
	if err != nil {
		return err
	}
	built, err := docker.ImageBuild(ctx, context,
		build.ImageBuildOptions{Version: build.BuilderV1, Tags: []string{peerTag}, Remove: true})
	if err != nil {
		return err
	}
	defer func() { _ = built.Body.Close() }()
	for d := json.NewDecoder(built.Body); d.More(); {
		var line struct{ Error string }
		if err := d.Decode(&line); err != nil {
			return err
		}
		if line.Error != "" {
			return fmt.Errorf("failed to build image %s: %s", peerTag, line.Error)
		}
	}
	return nil
}

// startFateFlowPair installs and starts two FATE-Flow servers, as guest and host, and an S3 server for both.
// It returns when all of them answer.
func startFateFlowPair(ctx context.Context, o options, d *deployment) (p *fateFlowPair, err error) {
	if o.cache == "" {
		return nil, errors.New("-cache is required: 'make bench-peer' installs FATE-Flow and sets it")
	}
	p = &fateFlowPair{}
	if p.dir, err = os.MkdirTemp("", "hutong-bench-peer-"); err != nil {
		return nil, err
	}

	first, err := ports.Free("127.0.0.1", 7)
	if err != nil {
		return p, err
	}
	local := func(i int) string { return "127.0.0.1:" + strconv.Itoa(first+i) }
	storage := local(6)
	program, args, env, err := fateflow.StorageCommand(o.cache, storage, filepath.Join(p.dir, "s3"),
		"guest", "host")
	if err != nil {
		return p, err
	}
	if err := p.launch("s3", program, args, env); err != nil {
		return p, err
	}

	routes := map[string]string{d.guest: local(0), d.host: local(1)}
	for i, node := range []string{d.guest, d.host} {
		side := []string{"guest", "host"}[i]
		// The containers only call back and use no transport, so nothing needs to listen on its address.
		server := &fateflow.Server{Dir: filepath.Join(p.dir, side, "fate_flow"), Cache: o.cache, Node: node,
			Address: local(i), GRPCPort: first + 2 + i, Storage: fateflow.StorageURL(storage, side),
			Transport: local(4 + i), Routes: routes}
		if err := server.Install(); err != nil {
			return p, err
		}
		program, args, env := server.Command()
		if err := p.launch(side, program, args, env); err != nil {
			return p, err
		}
		if i == 0 {
			p.guest = server
		} else {
			p.host = server
		}
	}

	for _, server := range []*fateflow.Server{p.guest, p.host} {
		if err := pollUntil(ctx, 2*time.Minute, server.IsReady); err != nil {
			return p, fmt.Errorf("failed to start FATE-Flow at %s: %w", server.Address, err)
		}
		if err := server.EnableWAL(ctx); err != nil {
			return p, err
		}
		if err := p.register(ctx, server); err != nil {
			return p, err
		}
	}

	return p, pollUntil(ctx, time.Minute, func() (bool, error) {
		c, err := net.Dial("tcp", storage)
		if err != nil {
			return false, nil
		}
		return true, c.Close()
	})
}

// pollUntil polls a condition until it holds.
func pollUntil(ctx context.Context, limit time.Duration, ready func() (bool, error)) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for {
		if is, err := ready(); err != nil || is {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("not ready after %s", limit)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func (p *fateFlowPair) launch(name, program string, args, env []string) error {
	out, err := os.Create(filepath.Join(p.dir, name+".log"))
	if err != nil {
		return err
	}
	defer func() { _ = out.Close() }()
	cmd := exec.Command(program, args...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = p.dir, out, out
	cmd.Env = append(os.Environ(), env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("failed to start %s: %w", name, err)
	}
	p.processes = append(p.processes, cmd)
	return nil
}

// stop ends the servers and removes the containers that they left.
func (p *fateFlowPair) stop(ctx context.Context, docker *client.Client) {
	for _, cmd := range p.processes {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}
	if docker == nil { // the components run as processes
		_ = os.RemoveAll(p.dir)
		return
	}
	if all, err := docker.ContainerList(ctx, container.ListOptions{All: true}); err == nil {
		for _, c := range all {
			if c.Image == peerTag && p.guest != nil &&
				(strings.Contains(c.Names[0], p.guest.Node) || strings.Contains(c.Names[0], p.host.Node)) {
				_ = docker.ContainerRemove(ctx, c.ID, container.RemoveOptions{Force: true})
			}
		}
	}
	_ = os.RemoveAll(p.dir)
}

// register registers the provider of the reference job at a FATE-Flow, with the image.
func (p *fateFlowPair) register(ctx context.Context, h *fateflow.Server) error {
	body, err := os.ReadFile(filepath.Join(vectorsDir, "provider_register.request.json"))
	if err != nil {
		return err
	}
	var registration map[string]any
	if err := json.Unmarshal(body, &registration); err != nil {
		return err
	}
	registration["metadata"] = map[string]any{"base_url": "", "image": peerTag}
	if body, err = json.Marshal(registration); err != nil {
		return err
	}
	return apiclient.Call(ctx, http.MethodPost, h.URL()+bfia.PathProviderRegister, body, nil)
}

// runMany submits n jobs at once to the guest, and returns the time until the last was FINISHED in its
// database.
func (p *fateFlowPair) runMany(ctx context.Context, document []byte, n int) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, 15*time.Minute)
	defer cancel()
	db, err := sql.Open("sqlite", "file:"+p.guest.Database()+"?mode=ro&_pragma=busy_timeout(20000)")
	if err != nil {
		return 0, err
	}
	defer func() { _ = db.Close() }()
	began := time.Now()
	ids := make([]string, n)
	if err := forEachParallel(n, n, func(i int) error {
		var created bfia.JobCreated
		url := p.guest.URL() + bfia.PathPlatformCreateAll
		err := apiclient.Call(ctx, http.MethodPost, url, document, &created)
		ids[i] = created.JobID
		return err
	}); err != nil {
		return 0, fmt.Errorf("failed to submit a job to FATE-Flow: %w", err)
	}
	for _, id := range ids {
		err := pollUntil(ctx, 15*time.Minute, func() (bool, error) {
			var state string
			err := db.QueryRowContext(ctx, "select f_status from t_schedule_job where f_job_id = ?", id).
				Scan(&state)
			return state == string(bfia.JobFinished), err
		})
		if err != nil {
			return 0, fmt.Errorf("failed to await job %s of FATE-Flow: %w", id, err)
		}
	}
	took := time.Since(began)
	for _, id := range ids {
		var bad int
		const count = "select count(*) from t_schedule_task_status where f_job_id = ?"
		err := db.QueryRowContext(ctx, count+" and f_status <> 'SUCCESS'", id).
			Scan(&bad)
		if err != nil {
			return 0, err
		}
		var good int
		if err := db.QueryRowContext(ctx, count, id).Scan(&good); err != nil {
			return 0, err
		}
		if bad > 0 || good == 0 {
			return 0, fmt.Errorf("job %s of FATE-Flow: %d of %d parts did not succeed", id, bad, good)
		}
	}
	return took, nil
}
