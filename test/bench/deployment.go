package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"hutong/bfia"
	"hutong/test/testenv/apiclient"
	"hutong/test/testenv/ports"
)

// slots is the number of slots of each party. Both run four containers at once, like the baseline of Docker.
const slots = 2

// vectorsDir has the captured registration and job.
const vectorsDir = "testdata/vectors"

// deployment is a `hutong dev` process with two parties.
type deployment struct {
	guest, host string // node ids
	urls        map[string]string
	clients     map[string]apiclient.Client // by node id, where a party demands a token
	dir         string
	every       time.Duration // the least between two reads of a job's status while it runs
	temporal    string        // address of the Temporal server
	pprof       string
	args        []string
	process     *exec.Cmd
	exited      chan struct{}
	log         bytes.Buffer
}

// startDeployment starts a deployment whose parties run the given number of containers or processes at once.
func startDeployment(ctx context.Context, o options, slots int, flags ...string) (_ *deployment, err error) {
	// The node ids are unique to this run, since they name Docker networks.
	id := strings.ToUpper(rand.Text()[:8])
	d := &deployment{guest: "BENCH" + id + "G", host: "BENCH" + id + "H", urls: map[string]string{}}
	if d.dir, err = os.MkdirTemp("", "hutong-bench-"); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			d.stop()
		}
	}()
	d.args = []string{"dev", "--data-dir", d.dir, "--slots", strconv.Itoa(slots), "--allow", o.provider,
		"--allow", exitProgram, "--allow", sleepProgram, "--allow", holdProgram}
	const each = 5 // a party also uses the four ports after its own
	first, err := ports.Free("127.0.0.1", 2*each+3)
	if err != nil {
		return nil, err
	}
	for i, node := range []string{d.guest, d.host} {
		address := "127.0.0.1:" + strconv.Itoa(first+each*i)
		d.urls[node] = "http://" + address
		d.args = append(d.args, "--party", node+"="+address)
	}
	temporal := first + 2*each
	d.temporal = "127.0.0.1:" + strconv.Itoa(temporal)
	d.args = append(d.args, "--temporal-port", strconv.Itoa(temporal), "--ui-port", strconv.Itoa(temporal+1))
	if o.profile != "" {
		d.pprof = "127.0.0.1:" + strconv.Itoa(temporal+2)
		d.args = append(d.args, "--pprof", d.pprof)
	}
	d.args = append(d.args, flags...)
	if err := d.start(ctx, o); err != nil {
		return nil, err
	}
	return d, nil
}

// start starts the deployment's process, and waits until both parties are ready.
func (d *deployment) start(ctx context.Context, o options) error {
	d.process, d.exited = exec.Command(o.hutong, d.args...), make(chan struct{})
	d.process.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	d.process.Stdout, d.process.Stderr = &d.log, &d.log
	if o.verbose {
		d.process.Stderr = os.Stderr
	}
	if err := d.process.Start(); err != nil {
		close(d.exited)
		return err
	}
	process, exited := d.process, d.exited
	go func() { _ = process.Wait(); close(exited) }()
	return d.ready(ctx)
}

// kill kills the deployment's process, as a crash does.
func (d *deployment) kill() {
	_ = d.process.Process.Kill()
	<-d.exited
}

func (d *deployment) ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for _, url := range d.urls {
		for {
			err := apiclient.Call(ctx, http.MethodGet, url+bfia.PathReady, nil, nil)
			if err == nil {
				break
			}
			select {
			case <-d.exited:
				return fmt.Errorf("hutong dev ended before it was ready")
			case <-ctx.Done():
				return fmt.Errorf("hutong dev is not ready: %w", err)
			case <-time.After(20 * time.Millisecond):
			}
		}
	}
	return nil
}

// cpu returns the processor time of the hutong process, without the processes that it started.
func (d *deployment) cpu() time.Duration { return cpuOf(d.process.Process.Pid) }

// cpuOf returns the processor time of a process, or 0 if it has ended.
func cpuOf(pid int) time.Duration {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	// proc(5): utime and stime are the 12th and 13th field after the name, in hundredths of a second.
	var ticks time.Duration
	if _, after, ok := strings.Cut(string(stat), ") "); ok {
		if fields := strings.Fields(after); len(fields) > 12 {
			for _, f := range fields[11:13] {
				n, _ := strconv.Atoi(f)
				ticks += time.Duration(n)
			}
		}
	}
	return ticks * 10 * time.Millisecond
}

// memory returns the resident memory of the hutong process in bytes.
func (d *deployment) memory() int64 { return memoryOf(d.process.Process.Pid) }

// memoryOf returns the resident memory of a process in bytes, or 0 if it has ended.
func memoryOf(pid int) int64 {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0
	}
	_, after, _ := strings.Cut(string(status), "VmRSS:")
	fields := strings.Fields(after)
	if len(fields) == 0 {
		return 0
	}
	n, _ := strconv.ParseInt(fields[0], 10, 64)
	return n << 10
}

// stop stops the deployment, and prints its log if it ended early.
func (d *deployment) stop() {
	select {
	case <-d.exited:
		fmt.Fprintf(os.Stderr, "hutong dev ended early, %v:\n%s", d.process.ProcessState, d.log.String())
	default:
	}
	if d.process != nil && d.process.Process != nil {
		_ = d.process.Process.Signal(syscall.SIGTERM)
		select {
		case <-d.exited:
		case <-time.After(40 * time.Second):
			_ = d.process.Process.Kill()
			<-d.exited
		}
	}
	_ = os.RemoveAll(d.dir)
}

// registerAndUpload registers the provider of the reference job at both parties, with a device and what it
// runs, and uploads a dataset to each.
func (d *deployment) registerAndUpload(ctx context.Context, name string, device bfia.Device,
	metadata bfia.Metadata) error {
	body, err := os.ReadFile(filepath.Join(vectorsDir, "provider_register.request.json"))
	if err != nil {
		return fmt.Errorf("%w: run this in the repository's root", err)
	}
	registration, err := bfia.ParseRegistration(body)
	if err != nil {
		return err
	}
	registration.Name, registration.Device, registration.Metadata = name, device, metadata
	if body, err = json.Marshal(registration); err != nil {
		return err
	}
	for role, node := range map[string]string{"guest": d.guest, "host": d.host} {
		url := d.urls[node] + bfia.PathProviderRegister
		if err := d.clients[node].Call(ctx, http.MethodPost, url, body, nil); err != nil {
			return fmt.Errorf("failed to register the provider at %s: %w", node, err)
		}
		if err := d.upload(ctx, node, "test_"+role, "id,y,x0\na,0,1\nb,1,2\n"); err != nil {
			return fmt.Errorf("failed to upload a dataset to %s: %w", node, err)
		}
	}
	return nil
}

func (d *deployment) upload(ctx context.Context, node, name, csv string) error {
	return d.uploadAs(ctx, node, name, csv, `{"delimiter":",","label_name":"y","match_id_name":"id"}`)
}

// uploadAs uploads a dataset with its metadata.
func (d *deployment) uploadAs(ctx context.Context, node, name, csv, meta string) error {
	return d.clients[node].Upload(ctx, d.urls[node], name+".csv", []byte(csv), map[string]string{
		"namespace": "testspace", "name": name, "head": "true", "partitions": "1", "meta": meta})
}
