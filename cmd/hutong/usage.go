package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"hutong/bfia"
)

// usageError is an error in the command line that cobra does not detect.
type usageError struct{ error }

func usagef(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

// subcommandsOnly returns the argument check of a command that only holds subcommands.
func subcommandsOnly(mayBeBare bool) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			if mayBeBare {
				return nil
			}
			return fmt.Errorf("%s needs a subcommand", cmd.CommandPath())
		}
		var names []string
		for _, sub := range cmd.Commands() {
			if sub.IsAvailableCommand() {
				names = append(names, sub.Name())
			}
		}
		meant := bfia.DidYouMean(args[0], names)
		if below := commandsBelow(cmd, args[0]); meant == "" && len(below) > 0 {
			meant = "; did you mean " + strings.Join(below, " or ") + "?"
		}
		return fmt.Errorf("unknown command %q for %q%s", args[0], cmd.CommandPath(), meant)
	}
}

// commandsBelow returns the paths of the subcommands of a command's subcommands that have a name.
func commandsBelow(cmd *cobra.Command, name string) (paths []string) {
	for _, sub := range cmd.Commands() {
		for _, leaf := range sub.Commands() {
			if (leaf.Name() == name || leaf.HasAlias(name)) && leaf.IsAvailableCommand() {
				paths = append(paths, leaf.CommandPath())
			}
		}
	}
	return paths
}

// explainFlagError adds the flag that was probably meant to the error of an unknown one.
func explainFlagError(cmd *cobra.Command, err error) error {
	var unknown *pflag.NotExistError
	if !errors.As(err, &unknown) {
		return err
	}
	var names []string
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		if !f.Hidden {
			names = append(names, "--"+f.Name)
		}
	})
	return fmt.Errorf("%w%s", err, bfia.DidYouMean("--"+unknown.GetSpecifiedName(), names))
}

// exactly returns the check of a command's arguments, which names the ones that are missing.
func exactly(names ...string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		switch {
		case len(args) < len(names):
			verb := "is"
			if len(args)+1 < len(names) {
				verb = "are"
			}
			return fmt.Errorf("%s %s missing", strings.Join(names[len(args):], " and "), verb)
		case len(args) > len(names):
			return tooMany(args[len(names)])
		}
		return nil
	}
}

func tooMany(argument string) error { return fmt.Errorf("%q is one argument too many", argument) }

// noArguments is the check of a command without arguments. A file may belong to its flag --file.
func noArguments(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	if cmd.Flags().Lookup("file") != nil && !cmd.Flags().Changed("file") {
		return fmt.Errorf("%w; name the file with --file", tooMany(args[0]))
	}
	return tooMany(args[0])
}

// atMostOne is the check of a command with one argument that may be left out.
func atMostOne(_ *cobra.Command, args []string) error {
	if len(args) > 1 {
		return tooMany(args[1])
	}
	return nil
}

// atLeastOne returns the check of a command that takes one or more arguments of a kind.
func atLeastOne(name string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		if len(args) == 0 {
			return fmt.Errorf("%s is missing", name)
		}
		return nil
	}
}

// choice is a flag with a fixed set of values.
type choice struct {
	to      *string
	choices []string
}

func (c choice) String() string {
	if c.to == nil {
		return ""
	}
	return *c.to
}

func (c choice) Set(text string) error {
	if !slices.Contains(c.choices, text) {
		return fmt.Errorf("must be one of %s%s", strings.Join(c.choices, ", "),
			bfia.DidYouMean(text, c.choices))
	}
	*c.to = text
	return nil
}

func (c choice) Type() string { return "string" }

// choiceFlag defines a flag with a fixed set of values, which the shell completes.
func choiceFlag(cmd *cobra.Command, to *string, name, shorthand, standard, usage string, choices ...string) {
	*to = standard
	cmd.Flags().VarP(choice{to, choices}, name, shorthand, usage+": "+strings.Join(choices, ", "))
	complete := cobra.FixedCompletions(choices, cobra.ShellCompDirectiveNoFileComp)
	_ = cmd.RegisterFlagCompletionFunc(name, complete) // fails only for an unknown flag
}

// fileArgument returns the file that a command reads: its only argument, or the value of a flag.
func fileArgument(args []string, flag, value string) (string, error) {
	switch {
	case len(args) > 0 && value != "":
		return "", usagef("%s and %s are both given; give one file", args[0], flag)
	case len(args) > 0:
		return args[0], nil
	case value == "":
		return "", usagef("no file is given: name it, or - for standard input")
	}
	return value, nil
}
