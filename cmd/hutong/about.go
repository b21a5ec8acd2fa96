package main

import (
	"fmt"
	"io"
	"log/slog"
	"runtime/debug"

	"github.com/spf13/cobra"

	"hutong/internal/devserver"
	"hutong/internal/party"
)

// newVersionCommand tells what is in the binary.
func newVersionCommand() *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Print the version", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			info, ok := debug.ReadBuildInfo()
			if !ok {
				info = &debug.BuildInfo{}
			}
			return printVersion(cmd.OutOrStdout(), info)
		},
	}
}

func printVersion(w io.Writer, info *debug.BuildInfo) error {
	revision, changed := "", ""
	for _, setting := range info.Settings {
		switch {
		case setting.Key == "vcs.revision":
			revision = " " + setting.Value[:min(len(setting.Value), 12)]
		case setting.Key == "vcs.modified" && setting.Value == "true":
			changed = " with changes"
		}
	}
	engine := "no embedded engine"
	for _, module := range info.Deps {
		if module.Path == "go.temporal.io/server" {
			engine = "embedded Temporal " + module.Version
		}
	}
	_, err := fmt.Fprintf(w, "hutong %s%s%s, %s, %s\n", valueOr(info.Main.Version, "(devel)"), revision, changed, info.GoVersion, engine)
	return err
}

// newConfigCommand shows the configuration that a party started now would have.
func (m Main) newConfigCommand() *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use: "config", Short: "Print a party's effective configuration, secrets hidden", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := party.Load(file, m.Environ)
			if err != nil {
				return err
			}
			document, err := c.YAML()
			if err != nil {
				return err
			}
			_, err = cmd.OutOrStdout().Write(document)
			return err
		},
	}
	configFlag(cmd, &file)
	return cmd
}

// newTemporalCommand runs the embedded engine alone, for parties in processes of their own.
func newTemporalCommand() *cobra.Command {
	var o devserver.TemporalServerOptions
	cmd := &cobra.Command{
		Use:   "temporal",
		Short: "Run the embedded Temporal server alone",
		Long: "Runs the embedded Temporal server on 127.0.0.1 until it is stopped by a signal. Prints the line 'ready ADDRESS'\n" +
			"when all namespaces can be used. Started again on the same folder it goes on with unfinished workflows.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, cancel := untilSignal(cmd.Context())
			defer cancel()
			o.Logger = slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), &slog.HandlerOptions{Level: slog.LevelWarn}))
			engine, err := devserver.StartTemporalServer(ctx, o)
			if err != nil {
				return err
			}
			defer engine.Stop()
			if _, err := fmt.Fprintln(cmd.OutOrStdout(), "ready", engine.Address()); err != nil {
				return err
			}
			<-ctx.Done()
			return nil
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.DataDir, "data-dir", "hutong-data/temporal", "folder of the engine's database")
	f.IntVar(&o.Port, "port", 7233, "port on 127.0.0.1; 0 takes a free one")
	f.IntVar(&o.UIPort, "ui-port", 0, "port of the web UI on 127.0.0.1; 0 is no UI")
	f.StringArrayVar(&o.Namespaces, "namespace", []string{"default"}, "a namespace that must exist; repeatable")
	f.DurationVar(&o.Retention, "retention", devserver.DefaultRetention, "how long new namespaces keep the history of workflows that have ended")
	return cmd
}
