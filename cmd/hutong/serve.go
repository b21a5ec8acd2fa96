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
	"hutong/internal/party"
	"hutong/internal/temporalns"
)

// stopLimit is how long a stop may take before the process ends all the same.
const stopLimit = 30 * time.Second

// untilSignal ends a context at SIGINT or SIGTERM.
func untilSignal(ctx context.Context) (context.Context, context.CancelFunc) {
	return signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
}

func newDevCommand() *cobra.Command {
	o := devserver.Options{Docker: party.SwitchAuto}
	var parties []string
	var verbose, noDocker bool
	var profile string
	cmd := &cobra.Command{
		Use:   "dev",
		Short: "Run everything in one process: the engine with its UI, and two or more parties",
		Long: "Runs the embedded Temporal server with its web UI and N parties, each with its own HTTP port, namespace,\n" +
			"database, storage, workers and transport. Started again on the same folder it goes on with unfinished jobs.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			for _, text := range parties {
				a, err := devserver.ParsePartyAddress(text)
				if err != nil {
					return fmt.Errorf("--party: %w", err)
				}
				o.Parties = append(o.Parties, a)
			}
			if len(o.Parties) == 0 {
				o.Parties = devserver.DefaultParties()
			}
			if noDocker {
				o.Docker = party.SwitchOff
			}
			if len(o.Allow) == 0 {
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
	f.StringVar(&o.DataDir, "data-dir", "hutong-data", "folder of the engine and the parties")
	f.StringArrayVar(
		&parties,
		"party",
		nil,
		"a party as NODE_ID=HOST:PORT; repeatable (default: guest JG0100001100000010 on 9380, host JG0110017800000000 on 9480)",
	)
	f.IntVar(&o.TemporalPort, "temporal-port", 7233, "port of the engine on 127.0.0.1")
	f.IntVar(&o.UIPort, "ui-port", 8233, "port of the engine's web UI on 127.0.0.1")
	f.StringArrayVar(
		&o.Allow,
		"allow",
		nil,
		"a program that providers of device process may run; repeatable (default: the reference provider beside this binary)",
	)
	f.IntVar(
		&o.Slots,
		"slots",
		0,
		"containers that each party runs at once (default: the number of cores, at least 2)",
	)
	f.BoolVar(&o.HostNetwork, "host-network", false, "run containers on the host's network")
	f.BoolVar(&noDocker, "no-docker", false, "run no containers, processes only")
	f.BoolVarP(&verbose, "verbose", "v", false, "log what the parties do")
	f.StringVar(&profile, "pprof", "", "HOST:PORT at which net/http/pprof answers")
	_ = f.MarkHidden("pprof") // its only error is that there is no such flag
	return cmd
}

// referenceProvider is the reference provider's program, where it lies beside this one.
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
	_, _ = fmt.Fprintf(out, "Hutong is ready; its data is in %s\n\n", o.DataDir)
	for _, p := range d.Parties {
		_, _ = fmt.Fprintf(
			out,
			"  party %-20s http://%s  transport %s  namespace %s\n",
			p.NodeID,
			p.Listen,
			p.Transport.Listen,
			p.Temporal.Namespace,
		)
	}
	_, _ = fmt.Fprintf(
		out,
		"  %-26s %s\n  %-26s %s\n\nCtrl-C stops it; unfinished jobs go on when it is started again.\n",
		"Temporal",
		d.Temporal.Address(),
		"Temporal's UI",
		d.Temporal.UIAddress(),
	)
	err = wait(ctx, d.Failed())
	stopWithin(func(ctx context.Context) { d.Stop(ctx) })
	return err
}

// wait waits for the end that a signal or a failed part brings.
func wait(ctx context.Context, failed <-chan error) error {
	select {
	case <-ctx.Done():
		return nil
	case err := <-failed:
		return err
	}
}

func stopWithin(stop func(context.Context)) {
	ctx, cancel := context.WithTimeout(context.Background(), stopLimit)
	defer cancel()
	stop(ctx)
}

// newPartCommand makes the command of one part of a party.
func newPartCommand(use, short string, roles func() party.Roles, flags func(*cobra.Command)) *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use: use, Short: short, Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := party.Load(file, os.Environ())
			if err != nil {
				return err
			}
			ctx, cancel := untilSignal(cmd.Context())
			defer cancel()
			p, err := party.Start(ctx, cfg, roles(), partyLogger(cfg, cmd.ErrOrStderr()))
			if err != nil {
				return err
			}
			_, _ = fmt.Fprintf(cmd.OutOrStdout(), "%s of party %s is ready\n", use, cfg.NodeID)
			err = wait(ctx, p.Failed())
			stopWithin(p.Stop)
			return err
		},
	}
	configFlag(cmd, &file)
	if flags != nil {
		flags(cmd)
	}
	return cmd
}

func configFlag(cmd *cobra.Command, file *string) {
	cmd.Flags().
		StringVarP(file, "config", "c", os.Getenv("HUTONG_CONFIG"), "the party's configuration file (YAML); every value also by environment variable")
}

func partyLogger(cfg *party.Config, w io.Writer) *slog.Logger {
	options := &slog.HandlerOptions{Level: cfg.Log.Level}
	if cfg.Log.Format == party.LogJSON {
		return slog.New(slog.NewJSONHandler(w, options))
	}
	return slog.New(slog.NewTextHandler(w, options))
}

func newAPICommand() *cobra.Command {
	return newPartCommand(
		"api",
		"Run a party's HTTP endpoints",
		func() party.Roles { return party.Roles{API: true} },
		nil,
	)
}

func newTransportCommand() *cobra.Command {
	return newPartCommand(
		"transport",
		"Run a party's transport, the channel between containers",
		func() party.Roles { return party.Roles{Transport: true} },
		nil,
	)
}

func newWorkerCommand() *cobra.Command {
	var only string
	cmd := newPartCommand(
		"worker",
		"Run a party's workers: control (workflows, commands) and runner (containers on this host)",
		func() party.Roles {
			return party.Roles{Control: only != "runner", Runner: only != "control"}
		},
		func(cmd *cobra.Command) {
			cmd.Flags().
				StringVar(&only, "only", "", "control or runner: run just that, so that they scale apart")
		},
	)
	cmd.PreRunE = func(*cobra.Command, []string) error {
		if only != "" && only != "control" && only != "runner" {
			return fmt.Errorf("--only: %q is neither control nor runner", only)
		}
		return nil
	}
	return cmd
}

func newMigrateCommand() *cobra.Command {
	var file string
	var retention time.Duration
	cmd := &cobra.Command{
		Use: "migrate", Short: "Prepare a party's database and its Temporal namespace", Args: cobra.NoArgs,
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
			if err := temporalns.Ensure(cmd.Context(), options, cfg.Temporal.Namespace, retention); err != nil {
				return err
			}
			_, _ = fmt.Fprintf(
				cmd.OutOrStdout(),
				"The database and the namespace %s of party %s are ready\n",
				cfg.Temporal.Namespace,
				cfg.NodeID,
			)
			return nil
		},
	}
	configFlag(cmd, &file)
	cmd.Flags().
		DurationVar(&retention, "retention", 7*24*time.Hour, "how long Temporal keeps the history of jobs that have ended")
	return cmd
}

// newSuperviseCommand is what the process device starts to outlive its worker. People don't call it.
func newSuperviseCommand() *cobra.Command {
	return &cobra.Command{
		Use: "supervise DIR", Hidden: true, Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			if code := process.Supervise(args); code != 0 {
				return errors.New("the supervisor ended with a failure")
			}
			return nil
		},
	}
}
