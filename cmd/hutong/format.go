package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"
	"sigs.k8s.io/yaml"
)

// The output formats of commands that show data.
const (
	formatJSON = "json"
	formatYAML = "yaml"
	formatWide = "wide"
)

// addFormats gives every command with the flag --json the flag -o, as kubectl has it. --json means -o json.
func addFormats(cmd *cobra.Command, c *client) {
	for _, sub := range cmd.Commands() {
		addFormats(sub, c)
	}
	flags := cmd.Flags()
	if flags.Lookup("json") == nil || cmd.RunE == nil {
		return
	}
	var format string
	if flags.ShorthandLookup("o") == nil {
		choiceFlag(cmd, &format, "format", "o", "", "output format, with more columns in wide",
			formatJSON, formatYAML, formatWide)
	} else {
		choiceFlag(cmd, &format, "format", "", "", "output format, with more columns in wide",
			formatJSON, formatYAML, formatWide)
	}
	cmd.MarkFlagsMutuallyExclusive("json", "format")
	run := cmd.RunE
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		switch format {
		case formatWide:
			c.wide = true
		case formatJSON, formatYAML:
			// Set clears the flag's own mark of exclusion: it was checked before.
			if err := cmd.Flags().Set("json", "true"); err != nil {
				return err
			}
		}
		if format != formatYAML {
			return run(cmd, args)
		}
		return printAsYAML(cmd, func() error { return run(cmd, args) })
	}
}

// printFields prints a JSON document for people, as YAML.
func printFields(w io.Writer, document []byte) error {
	text, err := yaml.JSONToYAML(document)
	if err != nil {
		return fmt.Errorf("failed to convert the output to YAML: %w", err)
	}
	_, err = w.Write(text)
	return err
}

// printAsYAML runs a command that prints one JSON document, and prints it as YAML.
func printAsYAML(cmd *cobra.Command, run func() error) error {
	out := cmd.OutOrStdout()
	var document bytes.Buffer
	cmd.SetOut(&document)
	failed := run()
	cmd.SetOut(out)
	if document.Len() == 0 {
		return failed
	}
	return errors.Join(failed, printFields(out, document.Bytes()))
}
