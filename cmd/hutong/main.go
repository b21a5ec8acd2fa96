package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"
)

func main() {
	root := &cobra.Command{Use: "hutong", SilenceUsage: true, SilenceErrors: true}
	root.AddCommand(newDevCommand(), newAPICommand(), newTransportCommand(), newWorkerCommand(), newMigrateCommand(), newSuperviseCommand())
	if err := root.Execute(); err != nil {
		fmt.Fprintln(os.Stderr, "hutong:", err)
		os.Exit(1)
	}
}
