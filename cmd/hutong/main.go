// Command hutong holds all of Hutong in one binary: the processes of a party (api, worker, transport), a
// development deployment (dev), and the client of a party's endpoints (job, data, provider, runner).
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"strings"

	"github.com/spf13/cobra"

	durationflag "hutong/internal/duration"
)

// The exit statuses.
const (
	exitOK     = 0
	exitFailed = 1 // the command failed
	exitUsage  = 2 // the command line is invalid; nothing was done
)

// gcPercent lets the heap grow to three times the live heap before a collection; Go's default is twice. With
// many jobs at once this saves a tenth of the CPU time for a quarter more memory (CHANGELOG.md).
const gcPercent = 200

func main() {
	if err := nameUser(); err != nil {
		_, _ = fmt.Fprintln(os.Stderr, "hutong:", err)
		os.Exit(exitFailed)
	}
	if os.Getenv("GOGC") == "" { // the operator's value takes precedence
		debug.SetGCPercent(gcPercent)
	}
	os.Exit(Main{}.Run(context.Background(), os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

// Main is the program. Tests run the same code as main.
type Main struct {
	// Environ holds the environment; nil means that of the process.
	Environ []string
}

// Run runs a command line and returns the exit status. Cancelling ctx ends the command.
func (m Main) Run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	if m.Environ == nil {
		m.Environ = os.Environ()
	}
	root := m.newRootCommand()
	started := false
	markStarted(root, &started)
	root.SetArgs(args)
	root.SetIn(stdin)
	root.SetOut(stdout)
	root.SetErr(stderr)
	cmd, err := root.ExecuteContextC(ctx)
	var wrong usageError
	switch {
	case err == nil:
		return exitOK
	case errors.Is(err, errSaid):
		return exitFailed
	case !started || errors.As(err, &wrong):
		_, _ = fmt.Fprintf(stderr, "hutong: %v\n", err)
		if !cmd.HasSubCommands() {
			_, _ = fmt.Fprintf(stderr, "Usage: %s\n", cmd.UseLine())
		}
		_, _ = fmt.Fprintf(stderr, "See '%s --help'.\n", cmd.CommandPath())
		return exitUsage
	}
	_, _ = fmt.Fprintln(stderr, "hutong:", err)
	return exitFailed
}

func (m Main) newRootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:           "hutong",
		Short:         "Run federated jobs between institutions over the BFIA interconnection protocol",
		SilenceUsage:  true,
		SilenceErrors: true,
		Args:          subcommandsOnly(true),
		Version:       version(),
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	c := &client{url: valueOr(m.getenv("HUTONG_URL"), defaultURL), stdoutColour: m.getenv("NO_COLOR") == "",
		account: account{getenv: m.getenv}}
	root.PersistentFlags().
		StringVar(&c.url, "url", c.url, "URL of the party's API, for client commands (HUTONG_URL)")
	durationflag.Flag(root.PersistentFlags(), &c.timeout, "timeout", defaultTimeout,
		"time limit of one request of a client command, except uploads and downloads")
	for _, f := range []struct {
		to                    *string
		name, variable, usage string
	}{
		{&c.account.caFile, "ca-file", "HUTONG_CA_FILE",
			"PEM file with authorities of the party's certificate, besides the system's, for client commands"},
		{&c.account.certFile, "cert-file", "HUTONG_CERT_FILE",
			"PEM file with your certificate, for client commands"},
		{&c.account.keyFile, "key-file", "HUTONG_KEY_FILE", "PEM file with its key"},
	} {
		root.PersistentFlags().StringVar(f.to, f.name, m.getenv(f.variable), f.usage+" ("+f.variable+")")
	}
	root.AddGroup(&cobra.Group{ID: "client", Title: "Client commands:"},
		&cobra.Group{ID: "serve", Title: "Server commands:"})
	add := func(group string, commands ...*cobra.Command) {
		for _, command := range commands {
			command.GroupID = group
			root.AddCommand(command)
		}
	}
	add("client", newJobCommand(c), newDataCommand(c), newModelCommand(c), newProviderCommand(c),
		newRunnerCommand(c),
		newNotificationCommand(c),
		newPartnerCommand(c), newGrantCommand(c), newApprovalCommand(c), newAuditCommand(c),
		newEvidenceCommand(), newTokenCommand(c), newProjectCommand(c),
		newPeriodicCommand(c),
		newLoginCommand(c), newLogoutCommand(c), newWhoAmICommand(c), newConformanceCommand(c),
		newCapacityCommand())
	add("serve", newDevCommand(), newAPICommand(), newWorkerCommand(), newTransportCommand(),
		newMigrateCommand(), newCertCommand(), newKeyCommand(), newCodecCommand(),
		newDoctorCommand(), newSupportCommand(), newRestoreCommand(), newTemporalCommand(),
		m.newConfigCommand(), m.newDemoCommand())
	root.AddCommand(newVersionCommand(), newSuperviseCommand())
	root.SetVersionTemplate("{{.Version}}\n")
	root.SetFlagErrorFunc(explainFlagError)
	addAliases(root)
	acceptPrefixes(root, c)
	addFormats(root, c)
	addCompletions(root, c)
	return root
}

// getenv returns the last value of a variable, or "".
func (m Main) getenv(name string) (value string) {
	for _, variable := range m.Environ {
		if v, ok := strings.CutPrefix(variable, name+"="); ok {
			value = v
		}
	}
	return value
}

// errSaid is a failure that the command has already reported.
var errSaid = errors.New("failed")

// markStarted makes each command record that it was started, which means that cobra accepted the command
// line.
func markStarted(cmd *cobra.Command, started *bool) {
	if run := cmd.RunE; run != nil {
		cmd.RunE = func(cmd *cobra.Command, args []string) error {
			*started = true
			return run(cmd, args)
		}
	}
	for _, sub := range cmd.Commands() {
		markStarted(sub, started)
	}
}

// group returns a command that only holds subcommands. Calling it without a known subcommand is a usage
// error.
func group(use, short string, commands ...*cobra.Command) *cobra.Command {
	cmd := &cobra.Command{
		Use: use, Short: short,
		Args: subcommandsOnly(false),
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(commands...)
	return cmd
}

func valueOr(value, fallback string) string {
	if value == "" {
		return fallback
	}
	return value
}
