package main

import "github.com/spf13/cobra"

// aliases are the names that users of kubectl and of Temporal's command line expect of a group's commands.
var aliases = map[string][]string{
	"list":   {"ls"},
	"show":   {"get", "describe"},
	"delete": {"rm"},
	"remove": {"delete", "rm"}, // a partner, or an approval rule
	"revoke": {"delete", "rm"}, // a token or a grant, of which the record stays
	"stop":   {"cancel"},
}

// addAliases gives the commands of each group their aliases.
func addAliases(root *cobra.Command) {
	for _, group := range root.Commands() {
		for _, cmd := range group.Commands() {
			cmd.Aliases = append(cmd.Aliases, aliases[cmd.Name()]...)
		}
		addAliases(group) // groups within groups
	}
}
