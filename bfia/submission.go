package bfia

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
)

// SubmissionDigest returns the SHA-256 of what a job does, in hexadecimal: its parties, components,
// parameters of tasks and old job. It ignores what a scheduler may rewrite: the order of fields, the spelling
// of numbers, and the parameters of the job, such as how states are reported.
func (d *Document) SubmissionDigest() (string, error) {
	var config map[string]json.RawMessage
	if err := json.Unmarshal(d.fields["config"], &config); err != nil {
		return "", Errorf(CodeBadRequest, "config: %v", err)
	}
	dag, err := canonicalJSON(d.fields["dag"])
	if err != nil {
		return "", Errorf(CodeBadRequest, "dag: %v", err)
	}
	params, err := canonicalJSON(config["task_params"])
	if err != nil {
		return "", Errorf(CodeBadRequest, "config.task_params: %v", err)
	}
	text, err := json.Marshal(map[string]any{"job_id": d.JobID, "old_job_id": d.OldJobID, "dag": dag,
		"initiator": d.Config.Initiator, "parts": d.Config.Parts(), "task_params": params})
	if err != nil {
		return "", fmt.Errorf("failed to encode the submission of job %s: %w", d.JobID, err)
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:]), nil
}

// canonicalJSON decodes a value so that [json.Marshal] encodes equal values equally.
func canonicalJSON(raw json.RawMessage) (any, error) {
	if len(raw) == 0 {
		return nil, nil
	}
	decoder := json.NewDecoder(bytes.NewReader(raw))
	decoder.UseNumber()
	var value any
	if err := decoder.Decode(&value); err != nil {
		return nil, err
	}
	return canonicalNumbers(value), nil
}

// canonicalNumbers spells fractions and exponents in one way. Whole numbers keep all their digits.
func canonicalNumbers(value any) any {
	switch v := value.(type) {
	case map[string]any:
		for k := range v {
			v[k] = canonicalNumbers(v[k])
		}
	case []any:
		for i := range v {
			v[i] = canonicalNumbers(v[i])
		}
	case json.Number:
		if !strings.ContainsAny(v.String(), ".eE") {
			return v
		}
		if f, err := v.Float64(); err == nil {
			return json.Number(strconv.FormatFloat(f, 'g', -1, 64))
		}
	}
	return value
}
