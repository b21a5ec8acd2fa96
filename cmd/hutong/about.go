package main

import (
	"fmt"
	"log/slog"
	"runtime/debug"

	"github.com/spf13/cobra"

	"hutong/internal/devserver"
	durationflag "hutong/internal/duration"
	"hutong/internal/party"
)

func newVersionCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "version",
		Short:   "Print the versions of Hutong, Go and the embedded Temporal server, and the commit",
		Example: "  hutong version",
		Args:    noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := fmt.Fprintln(cmd.OutOrStdout(), version())
			return err
		},
	}
}

// commit is the commit that make build found, release the version that make image and make archive give.
var commit, release string

// version returns the versions of this program, with the commit that it was built from.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		info = &debug.BuildInfo{}
	}
	return describeBuild(info)
}

func describeBuild(info *debug.BuildInfo) string {
	revision, changed := valueOr(commit, "unknown"), ""
	for _, setting := range info.Settings {
		switch {
		case commit != "": // the build has set it
		case setting.Key == "vcs.revision":
			revision = setting.Value[:min(len(setting.Value), 12)]
		case setting.Key == "vcs.modified" && setting.Value == "true":
			changed = " with changes"
		}
	}
	temporal := "no embedded Temporal"
	for _, module := range info.Deps {
		if module.Path == "go.temporal.io/server" {
			temporal = "embedded Temporal " + module.Version
		}
	}
	number := valueOr(release, valueOr(info.Main.Version, "(devel)"))
	return fmt.Sprintf("hutong %s, commit %s%s, %s, %s", number, revision, changed, info.GoVersion, temporal)
}

func (m Main) newConfigCommand() *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use:   "config",
		Short: "Print a party's effective configuration, without secrets",
		Long: "Prints the configuration that a party would use if it started now: the defaults, then\n" +
			"the file, then the environment. Secrets are shown as ***.",
		Example: "  HUTONG_LISTEN=0.0.0.0:9380 hutong config -c party.yaml",
		Args:    noArguments,
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

// newTemporalCommand runs the embedded Temporal server alone, for parties in other processes.
func newTemporalCommand() *cobra.Command {
	var o devserver.TemporalServerOptions
	cmd := &cobra.Command{
		Use:   "temporal",
		Short: "Run the embedded Temporal server alone",
		Long: "Runs the embedded Temporal server on 127.0.0.1 until a signal stops it. Prints the line\n" +
			"'ready ADDRESS' when all namespaces can be used. Unfinished workflows resume when the\n" +
			"server is started again on the same folder.",
		Example: "  hutong temporal --data-dir data/temporal --namespace hutong-jg0100001100000010 " +
			"--ui-port 8233",
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, cancel := untilSignal(cmd.Context())
			defer cancel()

			handler := slog.NewTextHandler(cmd.ErrOrStderr(), &slog.HandlerOptions{Level: slog.LevelWarn})
			o.Logger = slog.New(handler)
			server, err := devserver.StartTemporalServer(ctx, o)
			if err != nil {
				return err
			}
			defer server.Stop()

			if _, err := fmt.Fprintln(cmd.OutOrStdout(), "ready", server.Address()); err != nil {
				return err
			}
			<-ctx.Done()

			return nil
		},
	}

	f := cmd.Flags()
	f.StringVar(&o.DataDir, "data-dir", "hutong-data/temporal", "folder of the server's database")
	numberFlag(f, &o.Port, "port", 7233, 0, "port on 127.0.0.1; 0 chooses a free port")
	numberFlag(f, &o.UIPort, "ui-port", 0, 0, "port of the web UI on 127.0.0.1; 0 disables the UI")
	f.StringArrayVar(&o.Namespaces, "namespace", []string{"default"},
		"a namespace to create if it is missing; repeatable")
	durationflag.Flag(f, &o.Retention, "retention", devserver.DefaultRetention,
		"how long the namespaces keep the history of closed workflows, at least")
	f.StringToStringVar(&o.DynamicConfig, "dynamic-config-value", nil,
		"KEY=VALUE of the server's dynamic configuration, the value in JSON; repeatable")

	return cmd
}
