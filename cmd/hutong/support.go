package main

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"hutong/internal/party"
	"hutong/internal/support"
)

func newSupportCommand() *cobra.Command {
	var file, out string
	var asJSON bool
	o := support.Options{Environ: os.Environ(), Version: version()}
	cmd := &cobra.Command{
		Use:   "support",
		Short: "Write one archive for those who help, without secrets and data",
		Long: "Writes versions, the effective configuration, the doctor's report, the state of jobs and\n" +
			"runners, why the last jobs failed, health, metrics and the ends of logs into one tar.gz\n" +
			"file, and prints what is in it. It takes no secret, no token, no algorithm's log and no row\n" +
			"of data, and removes what looks like a secret. Read the files before you hand them out.\n" +
			"Run it as the party's user on the party's machine; the party need not run.",
		Example: "  hutong support -c party.yaml\n" +
			"  hutong support -c party.yaml --log /var/log/hutong/api.log -o support.tar.gz",
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, cancel := untilSignal(cmd.Context())
			defer cancel()
			o.Config, o.ConfigError = party.Load(file, os.Environ())
			if o.ConfigError != nil && file == "" {
				return o.ConfigError
			}
			o.Time = time.Now()
			archive := support.Collect(ctx, o)
			if err := ctx.Err(); err != nil {
				return err
			}
			if out == "" {
				out = archive.Folder + ".tar.gz"
			}
			if err := writeArchive(out, archive); err != nil {
				return err
			}
			if asJSON {
				data, err := json.Marshal(map[string]any{"file": out, "entries": archive.Entries})
				if err != nil {
					return err
				}
				return printJSON(cmd.OutOrStdout(), data)
			}
			var rows [][]string
			for _, e := range archive.Entries {
				size := fmt.Sprintf("%d bytes", e.Bytes)
				if e.Removed > 0 {
					size += fmt.Sprintf(", %d secrets removed", e.Removed)
				}
				if e.Missing != "" {
					size = "missing: " + strings.TrimSpace(e.Missing)
				}
				rows = append(rows, []string{e.Name, e.About, size})
			}
			if err := printTable(cmd.OutOrStdout(), rows); err != nil {
				return err
			}
			_, err := fmt.Fprintln(cmd.OutOrStdout(), "wrote", out)
			return err
		},
	}
	configFlag(cmd, &file)
	f := cmd.Flags()
	f.StringVarP(&out, "out", "o", "", "the file to write (default: hutong-support-NODE_ID-TIME.tar.gz)")
	f.StringArrayVar(&o.Logs, "log", nil, "a file with the log of a process; repeatable")
	f.StringVar(&o.Units, "units", "hutong-*", "the systemd units whose journal to read; \"\" for none")
	f.StringArrayVar(&o.Metrics, "metrics", nil,
		"a URL of metrics or health to read, besides those at ops.listen; repeatable")
	numberFlag(f, &o.Lines, "lines", 5000, 1, "the most lines of each log")
	numberFlag(f, &o.Failures, "failures", 50, 0, "the most failed jobs")
	f.BoolVar(&asJSON, "json", false, "print the contents as JSON")
	return cmd
}

// writeArchive writes an archive as a file that only its owner may read.
func writeArchive(path string, archive support.Archive) error {
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("failed to write the archive: %w", err)
	}
	err = archive.Write(file)
	if closeErr := file.Close(); err == nil && closeErr != nil {
		err = fmt.Errorf("failed to write the archive: %w", closeErr)
	}
	if err != nil {
		_ = os.Remove(path)
	}
	return err
}
