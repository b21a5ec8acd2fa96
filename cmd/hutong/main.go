// Command hutong is all of Hutong in one binary: the parts of a party (api, worker, transport), everything at once for
// development (dev), and the client of a party's endpoints (job, data, provider, runner).
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
)

// The exit statuses.
const (
	exitOK     = 0
	exitFailed = 1 // it was tried and did not go well
	exitUsage  = 2 // it was not tried: the command line is wrong
)

// gcPercent lets the heap grow to three times what is in use before it is collected, where Go's default is twice: with many
// jobs at once, that takes a tenth of the processor time away for a quarter more memory (docs/performance.md).
const gcPercent = 200

func main() {
	if os.Getenv("GOGC") == "" { // the operator's own value counts
		debug.SetGCPercent(gcPercent)
	}
	os.Exit(Main{}.Run(context.Background(), os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

// Main is the program as a value, so that a test starts what main starts.
type Main struct {
	// Environ gives the client's variables; nil is the process's own.
	Environ []string
}

// Run runs one command line and returns the exit status. It ends early when ctx does.
func (m Main) Run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	if m.Environ == nil {
		m.Environ = os.Environ()
	}
	root := m.newRootCommand()
	tried := false
	markTried(root, &tried)
	root.SetArgs(args)
	root.SetIn(stdin)
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.ExecuteContext(ctx)
	var wrong usageError
	switch {
	case err == nil:
		return exitOK
	case errors.Is(err, errSaid):
		return exitFailed
	case !tried || errors.As(err, &wrong):
		_, _ = fmt.Fprintf(stderr, "hutong: %v\nSee 'hutong --help'.\n", err)
		return exitUsage
	}
	_, _ = fmt.Fprintln(stderr, "hutong:", err)
	return exitFailed
}

func (m Main) newRootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:           "hutong",
		Short:         "Federated jobs between institutions, over the BFIA interconnection protocol",
		SilenceUsage:  true,
		SilenceErrors: true,
		Args:          cobra.NoArgs,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	c := &client{url: valueOr(m.getenv("HUTONG_URL"), defaultURL), stdoutColour: m.getenv("NO_COLOR") == ""}
	root.PersistentFlags().StringVar(&c.url, "url", c.url, "the party's API, for client commands (HUTONG_URL)")
	root.PersistentFlags().DurationVar(&c.timeout, "timeout", defaultTimeout, "patience for one request of a client command; transfers of files may take longer")
	root.AddGroup(&cobra.Group{ID: "client", Title: "Client commands:"}, &cobra.Group{ID: "serve", Title: "Server commands:"})
	add := func(group string, commands ...*cobra.Command) {
		for _, command := range commands {
			command.GroupID = group
			root.AddCommand(command)
		}
	}
	add("client", newJobCommand(c), newDataCommand(c), newProviderCommand(c), newRunnerCommand(c), newConformanceCommand(c))
	add("serve", newDevCommand(), newAPICommand(), newWorkerCommand(), newTransportCommand(), newMigrateCommand(), newDoctorCommand(),
		newTemporalCommand(), m.newConfigCommand(), m.newDemoCommand())
	root.AddCommand(newVersionCommand(), newSuperviseCommand())
	return root
}

// getenv is the last value of a variable, "" if there is none.
func (m Main) getenv(name string) (value string) {
	for _, variable := range m.Environ {
		if v, ok := strings.CutPrefix(variable, name+"="); ok {
			value = v
		}
	}
	return value
}

// errSaid is a failure of which everything has been said already.
var errSaid = errors.New("failed")

// usageError is a command line that is wrong in a way that cobra can't see.
type usageError struct{ error }

func usagef(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

// markTried notes that a command line was understood and its command begun.
func markTried(cmd *cobra.Command, tried *bool) {
	if run := cmd.RunE; run != nil {
		cmd.RunE = func(cmd *cobra.Command, args []string) error {
			*tried = true
			return run(cmd, args)
		}
	}
	for _, sub := range cmd.Commands() {
		markTried(sub, tried)
	}
}

// group makes a command that only holds others. Without one of them, or with an unknown one, it is used wrongly.
func group(use, short string, commands ...*cobra.Command) *cobra.Command {
	cmd := &cobra.Command{
		Use: use, Short: short,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return fmt.Errorf("unknown command %q for %q", args[0], cmd.CommandPath())
			}
			return fmt.Errorf("%s needs a command", cmd.CommandPath())
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(commands...)
	return cmd
}

func valueOr(value, otherwise string) string {
	if value == "" {
		return otherwise
	}
	return value
}
