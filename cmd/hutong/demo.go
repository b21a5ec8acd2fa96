package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	dockerclient "github.com/docker/docker/client"
	"github.com/spf13/cobra"

	"hutong/bfia"
	"hutong/internal/devserver"
	"hutong/internal/image"
	"hutong/internal/party"
)

// The demo's files, relative to the repository's root.
const (
	demoProvider = "providers/reference/provider.json"
	demoJob      = "deploy/demo/job.json"
	demoData     = "testdata/breast"
	demoImage    = "hutong/provider:1.0.0"
)

func (m Main) newDemoCommand() *cobra.Command {
	var device, dataDir string
	var keep bool
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Run the reference job: two parties intersect their data and train a model",
		Long: "Starts the same processes as 'hutong dev', then runs the commands of a user: registers\n" +
			"the reference provider at both parties, uploads their data, submits the reference job,\n" +
			"watches it and shows its results. Run it in the repository's root. The data is in the\n" +
			"folder of 'hutong dev', which shows it afterwards.",
		Example: "  hutong demo --keep",
		Args:    noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			d := demo{main: m, device: device, dataDir: dataDir, keep: keep,
				out: cmd.OutOrStdout(), errOut: cmd.ErrOrStderr()}
			ctx, cancel := untilSignal(cmd.Context())
			defer cancel()
			return d.run(ctx)
		},
	}
	choiceFlag(cmd, &device, "device", "", "auto",
		"how the algorithms run; auto is docker if Docker Engine answers",
		"auto", string(bfia.DeviceDocker), string(bfia.DeviceProcess))
	cmd.Flags().StringVar(&dataDir, "data-dir", defaultDataDir, "folder of Temporal and the parties")
	cmd.Flags().BoolVar(&keep, "keep", false, "keep everything running after the job, until Ctrl-C")
	return cmd
}

type demo struct {
	main            Main
	device, dataDir string
	keep            bool
	out, errOut     io.Writer
}

func (d *demo) run(ctx context.Context) error {
	providers := referenceProvider()
	if len(providers) == 0 {
		return errors.New("failed to find the reference provider next to this program: run make build")
	}
	for _, file := range []string{demoProvider, demoJob, demoData} {
		if _, err := os.Stat(file); err != nil {
			return fmt.Errorf("failed to find %s: run the demo in the repository's root (make demo)", file)
		}
	}
	o, err := d.deployment(providers)
	if err != nil {
		return err
	}
	registration, err := d.prepareDevice(ctx, providers[0])
	if err != nil {
		return err
	}
	if o.Docker = party.SwitchOff; d.device == string(bfia.DeviceDocker) {
		o.Docker = party.SwitchOn
	}
	if err := os.MkdirAll(d.dataDir, 0o750); err != nil {
		return err
	}
	log, err := os.OpenFile(filepath.Join(d.dataDir, "hutong.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY,
		0o640)
	if err != nil {
		return err
	}
	defer func() { _ = log.Close() }()
	o.Logger = slog.New(slog.NewTextHandler(log, nil))

	started := time.Now()
	running, err := devserver.Start(ctx, o)
	if err != nil {
		return err
	}
	defer stopWithin(running.Stop)
	d.printAddresses(running, time.Since(started))

	guest, host := "http://"+running.Parties[0].Listen, "http://"+running.Parties[1].Listen
	if err := d.register(ctx, guest, host, registration); err != nil {
		return err
	}
	if err := d.runJob(ctx, guest); err != nil {
		return err
	}

	d.print("\nThe data is in %s. To explore it, run %s and open %s (Temporal's UI: %s)", d.dataDir,
		devCommand(o), consoleURL(running.Parties[0]), running.Temporal.UIAddress())
	if d.keep {
		d.print("Everything keeps running until Ctrl-C.")
		return wait(ctx, running.Failed())
	}
	return nil
}

// devCommand returns the command that starts the same deployment again, on the same ports.
func devCommand(o devserver.Options) string {
	command := []string{"bin/hutong dev"}
	if o.DataDir != defaultDataDir {
		command = append(command, "--data-dir", o.DataDir)
	}
	if o.UIPort != defaultUIPort {
		command = append(command, "--temporal-port", strconv.Itoa(o.TemporalPort), "--ui-port",
			strconv.Itoa(o.UIPort))
		for _, p := range o.Parties {
			command = append(command, "--party", p.NodeID+"="+p.Listen)
		}
	}
	return strings.Join(command, " ")
}

// printAddresses prints what runs, and where.
func (d *demo) printAddresses(running *devserver.Deployment, startup time.Duration) {
	d.print("Temporal and two parties are ready (%.1f s). Algorithms run %s.",
		startup.Seconds(), d.describeDevice())
	for i, role := range []string{"guest", "host"} {
		p := running.Parties[i]
		d.print("  %-5s %s  http://%s", role, p.NodeID, p.Listen)
	}
	d.print("  Temporal's UI  %s/namespaces/%s/workflows\n", running.Temporal.UIAddress(),
		running.Parties[0].Temporal.Namespace)
}

// register registers the reference provider at both parties, and uploads their datasets.
func (d *demo) register(ctx context.Context, guest, host string, registration []byte) error {
	path := filepath.Join(d.dataDir, "provider.json")
	if err := os.WriteFile(path, registration, 0o640); err != nil {
		return err
	}

	steps := [][]string{
		{guest, "provider", "register", "-f", path},
		{host, "provider", "register", "-f", path},
		{guest, "data", "upload", "--file", demoData + "/guest.csv", "--namespace", "demo", "--name",
			"breast_guest", "--id", "id", "--label", "y", "--partitions", "4"},
		{host, "data", "upload", "--file", demoData + "/host.csv", "--namespace", "demo", "--name",
			"breast_host", "--id", "id", "--partitions", "4"},
	}
	for _, step := range steps {
		if err := d.hutong(ctx, step[0], step[1:]...); err != nil {
			return err
		}
	}
	return nil
}

// runJob submits the reference job at the guest, watches it, and shows its outputs.
func (d *demo) runJob(ctx context.Context, guest string) error {
	jobID := bfia.NewJobID(time.Now(), os.Getpid())
	job, err := withJobID(jobID)
	if err != nil {
		return err
	}
	jobFile := filepath.Join(d.dataDir, "job.json")
	if err := os.WriteFile(jobFile, job, 0o640); err != nil {
		return err
	}
	if err := d.hutong(ctx, guest, "job", "submit", "-f", jobFile, "--watch"); err != nil {
		return err
	}
	return d.hutong(ctx, guest, "job", "outputs", jobID, "--show")
}

// deployment returns the options of the demo's deployment, with other ports if a documented one is in use.
func (d *demo) deployment(providers []string) (devserver.Options, error) {
	o := devserver.Options{
		DataDir:      d.dataDir,
		Parties:      devserver.DefaultParties(),
		TemporalPort: defaultTemporalPort,
		UIPort:       defaultUIPort,
		Allow:        providers,
	}
	if portsFree(defaultTemporalPort, defaultUIPort, 9380, 9381, 9382, 9383, 9384, 9480, 9481, 9482,
		9483, 9484) {
		return o, nil
	}
	// A party's other servers use the ports after that of its API.
	var free []int
	for port := 20000; port < 30000 && len(free) < 4; port += 5 {
		if portsFree(port, port+1, port+2, port+3, port+4) {
			free = append(free, port)
		}
	}
	if len(free) < 4 {
		return o, errors.New("failed to find free ports between 20000 and 30000")
	}
	o.TemporalPort, o.UIPort = free[0], free[1]
	for i := range o.Parties {
		o.Parties[i].Listen = net.JoinHostPort("127.0.0.1", strconv.Itoa(free[2+i]))
	}
	return o, nil
}

func portsFree(ports ...int) bool {
	for _, port := range ports {
		l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		if err != nil {
			return false
		}
		_ = l.Close()
	}
	return true
}

// prepareDevice chooses the device, prepares it, and returns the provider's registration for it.
func (d *demo) prepareDevice(ctx context.Context, program string) ([]byte, error) {
	document, err := os.ReadFile(demoProvider)
	if err != nil {
		return nil, err
	}
	switch d.device {
	case "auto", string(bfia.DeviceDocker):
		err := loadImage(ctx, program)
		if err == nil {
			d.device = string(bfia.DeviceDocker)
			return document, nil
		}
		if d.device != "auto" {
			return nil, fmt.Errorf("failed to build the reference provider's image: %w", err)
		}
		d.print("Docker Engine does not answer, so the algorithms run as processes.")
		d.device = string(bfia.DeviceProcess)
	}
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(document, &fields); err != nil {
		return nil, fmt.Errorf("failed to decode %s: %w", demoProvider, err)
	}
	metadata, err := json.Marshal(bfia.Metadata{Command: []string{program}})
	if err != nil {
		return nil, err
	}
	fields["device"], fields["metadata"] = json.RawMessage(`"process"`), metadata
	return json.MarshalIndent(fields, "", "  ")
}

func loadImage(ctx context.Context, program string) error {
	cli, err := dockerclient.NewClientWithOpts(dockerclient.FromEnv, dockerclient.WithAPIVersionNegotiation())
	if err != nil {
		return err
	}
	defer func() { _ = cli.Close() }()
	if _, err := cli.Ping(ctx); err != nil {
		return err
	}
	return image.Load(ctx, cli, program, demoImage)
}

func withJobID(id string) ([]byte, error) {
	document, err := os.ReadFile(demoJob)
	if err != nil {
		return nil, err
	}
	doc, err := bfia.ParseDocument(document)
	if err != nil {
		return nil, fmt.Errorf("failed to decode %s: %w", demoJob, err)
	}
	return doc.WithJobID(id).Bytes(), nil
}

func (d *demo) describeDevice() string {
	if d.device == string(bfia.DeviceDocker) {
		return "in containers of the image " + demoImage
	}
	return "as processes"
}

// hutong prints a command of this program as a user would type it, and runs it.
func (d *demo) hutong(ctx context.Context, url string, args ...string) error {
	d.print("$ hutong --url %s %s", url, strings.Join(args, " "))
	args = append([]string{"--url", url}, args...)
	if code := d.main.Run(ctx, args, strings.NewReader(""), d.out, d.errOut); code != exitOK {
		return errSaid
	}
	return nil
}

func (d *demo) print(format string, args ...any) { _, _ = fmt.Fprintf(d.out, format+"\n", args...) }
