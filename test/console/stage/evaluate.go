package main

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// evaluation is a report in the form of FATE's component evaluation: all metrics that it has for two classes,
// and a series of losses. Its numbers are made up.
//
//go:embed testdata/evaluation.json
var evaluation []byte

// evaluate is the component Evaluation. It writes the report to the output report.
func evaluate() int {
	if err := writeReport(); err != nil {
		fmt.Printf("level=error msg=%q\n", err.Error())
		return 1
	}
	return 0
}

func writeReport() error {
	var address struct{ Namespace, Name string }
	output := os.Getenv("runtime.component.output.report")
	if err := json.Unmarshal([]byte(output), &address); err != nil {
		return fmt.Errorf("failed to read the address of the output report, %q: %w", output, err)
	}
	folder, ok := strings.CutPrefix(os.Getenv("system.storage"), "file://")
	if !ok {
		return fmt.Errorf("system.storage: must begin with file://, but is %q", os.Getenv("system.storage"))
	}
	folder = filepath.Join(folder, address.Namespace, address.Name)
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return err
	}
	metadata, err := json.Marshal(object{"data_type": "report", "file_type": "json", "partitions": 1,
		"count": 1})
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(folder, "data_0"), evaluation, 0o600); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(folder, "metadata"), metadata, 0o600)
}
