package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"hutong/activities/driver/process"
	"hutong/internal/devserver"
	durationflag "hutong/internal/duration"
	"hutong/internal/party"
	"hutong/internal/temporalns"
)

// stopTimeout limits the graceful stop of the process.
const stopTimeout = 30 * time.Second

// The defaults of dev, which the demo uses too, so that dev shows what the demo did.
const (
	defaultDataDir      = "hutong-data"
	defaultTemporalPort = 7233
	defaultUIPort       = 8233
)

// untilSignal returns a context that SIGINT and SIGTERM cancel.
func untilSignal(ctx context.Context) (context.Context, context.CancelFunc) {
	return signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
}

func newDevCommand() *cobra.Command {
	o := devserver.Options{Environ: os.Environ()}
	var parties []string
	var verbose, noDocker bool
	var profile string
	cmd := &cobra.Command{
		Use:   "dev",
		Short: "Run Temporal and several parties in one process, for development",
		Long: "Runs the embedded Temporal server with its web UI, and several parties. Each party has\n" +
			"its own API port, namespace, database, storage, workers and transport. Unfinished jobs\n" +
			"resume when it is started again on the same folder.\n\n" +
			"The variables of the sections jobs, runner, upload and remote of a party's configuration,\n" +
			"such as HUTONG_JOBS_APPROVAL and HUTONG_RUNNER_GPUS, hold for all parties. Flags override\n" +
			"them. dev reads no other variable.",
		Example: "  hutong dev --data-dir hutong-data\n" +
			"  HUTONG_JOBS_APPROVAL=manual hutong dev\n" +
			"  hutong dev --party A=127.0.0.1:9380 --party B=127.0.0.1:9480",
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			for _, text := range parties {
				a, err := devserver.ParsePartyAddress(text)
				if err != nil {
					return usagef("--party: %w", err)
				}
				o.Parties = append(o.Parties, a)
			}
			if len(o.Parties) == 0 {
				o.Parties = devserver.DefaultParties()
			}
			if noDocker {
				o.Docker = party.SwitchOff
			}
			if len(o.Allow) == 0 && os.Getenv("HUTONG_RUNNER_PROCESS_ALLOW") == "" {
				o.Allow = referenceProvider()
			}
			level := slog.LevelWarn
			if verbose {
				level = slog.LevelInfo
			}
			o.Logger = slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), &slog.HandlerOptions{Level: level}))
			if err := servePprof(cmd.Context(), profile); err != nil {
				return err
			}
			return runDev(cmd.Context(), o, cmd.OutOrStdout())
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.DataDir, "data-dir", defaultDataDir, "folder of Temporal and the parties")
	f.StringArrayVar(&parties, "party", nil, "a party as NODE_ID=HOST:PORT; repeatable "+
		"(default: JG0100001100000010 on port 9380, JG0110017800000000 on port 9480)")
	numberFlag(f, &o.TemporalPort, "temporal-port", defaultTemporalPort, 0, "port of Temporal on 127.0.0.1")
	numberFlag(f, &o.UIPort, "ui-port", defaultUIPort, 0, "port of Temporal's web UI on 127.0.0.1")
	f.StringArrayVar(&o.Allow, "allow", nil,
		"a program that providers of device process may run; repeatable "+
			"(default: the reference provider next to this program)")
	numberFlag(f, &o.Slots, "slots", 0, 0, "slots of each party's runner (default: the number of cores, at least 2)")
	f.BoolVar(&o.OpenPartners, "open-partners", false,
		"also take partners without certificates at the parties' own ports, as whom their header names")
	f.BoolVar(&o.HostNetwork, "host-network", false, "run containers on the machine's network")
	f.BoolVar(&noDocker, "no-docker", false, "run tasks as processes only")
	f.BoolVarP(&verbose, "verbose", "v", false, "log at level info")
	pprofFlag(cmd, &profile)

	return cmd
}

// referenceProvider returns the path of the reference provider's program, if it is next to this program.
func referenceProvider() []string {
	self, err := os.Executable()
	if err != nil {
		return nil
	}
	path := filepath.Join(filepath.Dir(self), "provider")
	if info, err := os.Stat(path); err != nil || info.IsDir() {
		return nil
	}
	return []string{path}
}

func runDev(ctx context.Context, o devserver.Options, out io.Writer) error {
	ctx, cancel := untilSignal(ctx)
	defer cancel()
	d, err := devserver.Start(ctx, o)
	if err != nil {
		return err
	}
	_, _ = fmt.Fprintf(out, "Hutong is ready. Its data is in %s.\n\n", o.DataDir)
	for _, p := range d.Parties {
		_, _ = fmt.Fprintf(out, "  party %-20s http://%s  transport %s  namespace %s\n",
			p.NodeID, p.Listen, p.Transport.Listen, p.Temporal.Namespace)
	}
	for _, p := range d.Parties {
		_, _ = fmt.Fprintf(out, "  console %-18s %s\n", p.NodeID, consoleURL(p))
	}
	_, _ = fmt.Fprintf(out, "  %-26s %s\n  %-26s %s\n\n",
		"Temporal", d.Temporal.Address(), "Temporal's UI", d.Temporal.UIAddress())
	_, _ = fmt.Fprintln(out, "Stop it with Ctrl-C. Unfinished jobs resume when it is started again.")

	err = wait(ctx, d.Failed())
	stopWithin(func(ctx context.Context) { d.Stop(ctx) })
	return err
}

// consoleURL returns the address of the console of a party that runs here.
func consoleURL(p *party.Config) string {
	return "http://" + p.Listen + "/console/"
}

// wait returns nil when ctx is cancelled, or the error of a server that has failed.
func wait(ctx context.Context, failed <-chan error) error {
	select {
	case <-ctx.Done():
		return nil
	case err := <-failed:
		return err
	}
}

func stopWithin(stop func(context.Context)) {
	ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
	defer cancel()
	stop(ctx)
}

// newServerCommand returns a command that runs some roles of a party in this process.
func newServerCommand(use, short, long string, roles func() party.Roles) *cobra.Command {
	var file, profile string
	cmd := &cobra.Command{
		Use: use, Short: short, Long: long, Args: noArguments,
		Example: "  hutong " + use + " -c party.yaml",
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := party.Load(file, os.Environ())
			if err != nil {
				return err
			}
			ctx, cancel := untilSignal(cmd.Context())
			defer cancel()
			logger := partyLogger(cfg, cmd.ErrOrStderr())
			if err := servePprof(ctx, profile); err != nil {
				return err
			}
			p, err := party.Start(ctx, cfg, roles(), logger)
			if err != nil {
				return err
			}
			notifySystemd(ctx, logger, p.Alive)
			_, _ = fmt.Fprintf(cmd.OutOrStdout(), "%s of party %s is ready\n", use, cfg.NodeID)
			err = wait(ctx, p.Failed())
			stopWithin(p.Stop)
			return err
		},
	}
	configFlag(cmd, &file)
	pprofFlag(cmd, &profile)
	return cmd
}

func configFlag(cmd *cobra.Command, file *string) {
	cmd.Flags().StringVarP(file, "config", "c", os.Getenv("HUTONG_CONFIG"),
		"the party's configuration file, YAML (HUTONG_CONFIG); environment variables override it")
}

func partyLogger(cfg *party.Config, w io.Writer) *slog.Logger {
	options := &slog.HandlerOptions{Level: cfg.Log.Level}
	if cfg.Log.Format == party.LogJSON {
		return slog.New(slog.NewJSONHandler(w, options))
	}
	return slog.New(slog.NewTextHandler(w, options))
}

func newAPICommand() *cobra.Command {
	return newServerCommand("api", "Run a party's API",
		"Runs a party's HTTP API for clients, containers and partners. It may run several times.",
		func() party.Roles { return party.Roles{API: true} })
}

func newTransportCommand() *cobra.Command {
	return newServerCommand("transport", "Run a party's transport",
		"Runs a party's transport, which carries messages between containers of different\n"+
			"parties. It may run several times with transport.several.",
		func() party.Roles { return party.Roles{Transport: true} })
}

func newWorkerCommand() *cobra.Command {
	const control, runner = "control", "runner"
	var only string
	cmd := newServerCommand("worker", "Run a party's workers",
		"Runs a party's workers: control (workflows, calls to partners, records) and runner\n"+
			"(tasks on this machine). --only runs one of them. Control workers may run on any\n"+
			"machine; each machine that runs tasks needs one runner.",
		func() party.Roles { return party.Roles{Control: only != runner, Runner: only != control} })
	choiceFlag(cmd, &only, "only", "", "", "run only this worker", control, runner)

	return cmd
}

func newMigrateCommand() *cobra.Command {
	var file string
	var retention time.Duration
	cmd := &cobra.Command{
		Use:   "migrate",
		Short: "Create or upgrade a party's database and Temporal namespace",
		Long: "Creates or upgrades the tables in a party's database, and creates its Temporal namespace\n" +
			"with Hutong's search attributes. It is idempotent. Run it before the first start and\n" +
			"after each upgrade.",
		Example: "  hutong migrate -c party.yaml",
		Args:    noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := party.Load(file, os.Environ())
			if err != nil {
				return err
			}
			if err := party.Migrate(cmd.Context(), cfg); err != nil {
				return err
			}
			options, err := party.TemporalOptions(cfg, partyLogger(cfg, cmd.ErrOrStderr()))
			if err != nil {
				return err
			}
			if retention == 0 {
				retention = cfg.HistoryRetention()
			}
			if err := temporalns.Ensure(cmd.Context(), options, cfg.Temporal.Namespace,
				retention); err != nil {
				return err
			}
			_, _ = fmt.Fprintf(cmd.OutOrStdout(), "The database and the namespace %s of party %s are ready\n",
				cfg.Temporal.Namespace, cfg.NodeID)
			return nil
		},
	}
	configFlag(cmd, &file)
	durationflag.Flag(cmd.Flags(), &retention, "retention", 0,
		"how long Temporal keeps the history of closed workflows, at least (default: jobs.retention, as long as "+
			"results)")
	return cmd
}

// newSuperviseCommand returns the hidden command that the process driver starts for each process. The
// supervisor outlives the worker.
func newSuperviseCommand() *cobra.Command {
	return &cobra.Command{
		Use: "supervise DIR", Hidden: true, Args: exactly("DIR"),
		RunE: func(_ *cobra.Command, args []string) error {
			if code := process.Supervise(args); code != 0 {
				return errors.New("failed to supervise the process")
			}
			return nil
		},
	}
}
