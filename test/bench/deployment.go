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

// slots of each of the two parties: four containers at once, as in the measurement of Docker alone.
const slots = 2

// vectors are the seed's own registration and job.
const vectorsDir = "testdata/vectors"

// deployment is a `hutong dev` of its own.
type deployment struct {
	guest, host string // node ids
	urls        map[string]string
	dir         string
	temporal    string // the engine's address
	pprof       string
	process     *exec.Cmd
	exited      chan struct{}
	log         bytes.Buffer
}

// startDeployment starts one whose parties run so many containers or processes at once.
func startDeployment(ctx context.Context, o options, slots int, flags ...string) (_ *deployment, err error) {
	// Node ids of this run alone: they name Docker's networks.
	id := strings.ToUpper(rand.Text()[:8])
	d := &deployment{guest: "BENCH" + id + "G", host: "BENCH" + id + "H", urls: map[string]string{}, exited: make(chan struct{})}
	if d.dir, err = os.MkdirTemp("", "hutong-bench-"); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			d.stop()
		}
	}()
	args := []string{"dev", "--data-dir", d.dir, "--slots", strconv.Itoa(slots), "--allow", o.provider, "--allow", exitProgram, "--allow", sleepProgram}
	first, err := ports.Free("127.0.0.1", 9) // a party takes those after its own too
	if err != nil {
		return nil, err
	}
	for i, node := range []string{d.guest, d.host} {
		address := "127.0.0.1:" + strconv.Itoa(first+3*i)
		d.urls[node] = "http://" + address
		args = append(args, "--party", node+"="+address)
	}
	d.temporal = "127.0.0.1:" + strconv.Itoa(first+6)
	args = append(args, "--temporal-port", strconv.Itoa(first+6), "--ui-port", strconv.Itoa(first+7))
	if o.profile != "" {
		d.pprof = "127.0.0.1:" + strconv.Itoa(first+8)
		args = append(args, "--pprof", d.pprof)
	}
	d.process = exec.Command(o.hutong, append(args, flags...)...)
	d.process.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	d.process.Stdout, d.process.Stderr = &d.log, &d.log
	if o.verbose {
		d.process.Stderr = os.Stderr
	}
	if err := d.process.Start(); err != nil {
		return nil, err
	}
	go func() { _ = d.process.Wait(); close(d.exited) }()
	if err := d.ready(ctx); err != nil {
		return nil, err
	}
	return d, nil
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
				return fmt.Errorf("hutong dev ended early")
			case <-ctx.Done():
				return fmt.Errorf("hutong dev is not ready: %w", err)
			case <-time.After(20 * time.Millisecond):
			}
		}
	}
	return nil
}

// cpu is the processor time that hutong has taken so far, without the processes that it started.
func (d *deployment) cpu() time.Duration {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", d.process.Process.Pid))
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

// memory is what hutong holds of the machine's memory, in bytes.
func (d *deployment) memory() int64 {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", d.process.Process.Pid))
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

// stop stops hutong and says if it was gone before.
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

// prepare registers the seed's provider at both parties, on a device with what it runs, and uploads a dataset to each.
func (d *deployment) registerAndUpload(ctx context.Context, name string, device bfia.Device, metadata bfia.Metadata) error {
	body, err := os.ReadFile(filepath.Join(vectorsDir, "provider_register.request.json"))
	if err != nil {
		return fmt.Errorf("%w; run this in the repository's root", err)
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
		if err := apiclient.Call(ctx, http.MethodPost, d.urls[node]+bfia.PathProviderRegister, body, nil); err != nil {
			return fmt.Errorf("register at %s: %w", node, err)
		}
		if err := d.upload(ctx, node, "test_"+role, "id,y,x0\na,0,1\nb,1,2\n"); err != nil {
			return fmt.Errorf("upload to %s: %w", node, err)
		}
	}
	return nil
}

func (d *deployment) upload(ctx context.Context, node, name, csv string) error {
	return apiclient.Upload(ctx, d.urls[node], name+".csv", []byte(csv), map[string]string{
		"namespace": "testspace", "name": name, "head": "true", "partitions": "1",
		"meta": `{"delimiter":",","label_name":"y","match_id_name":"id"}`})
}
