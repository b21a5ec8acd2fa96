package main

import (
	"context"
	"fmt"
	"net/http"

	"hutong/bfia"
	"hutong/internal/identity"
)

// departments is what the strict host has of its projects risk and ads. Each has a dataset, demo#risk-data
// and demo#ads-data.
type departments struct {
	Tokens struct {
		Risk string `json:"risk"` // viewer, data and approver of risk
		Both string `json:"both"` // viewer and data of both, approver of ads
	} `json:"tokens"`
	Jobs struct { // PENDING at the host
		Risk string `json:"risk"`
		Ads  string `json:"ads"`
	} `json:"jobs"`
}

// makeDepartments creates the projects of the strict host, with what belongs to them.
func (b *builder) makeDepartments(ctx context.Context, pair partyPair, made *departments) (err error) {
	for project, id := range map[string]*string{"risk": &made.Jobs.Risk, "ads": &made.Jobs.Ads} {
		flow := "department-" + project
		partnerJobs := []bfia.PartnerJobs{{NodeID: guestNode, FlowID: flow}}
		if err := pair.host.call(ctx, http.MethodPost, bfia.PathProjectCreate,
			bfia.SetProject{Name: project, PartnerJobs: &partnerJobs}, nil); err != nil {
			return err
		}
		name := project + "-data"
		fields := map[string]string{"namespace": "demo", "name": name, "head": "true", "partitions": "1",
			"meta": `{"delimiter":",","match_id_name":"id"}`, "project": project}
		if err := pair.host.client.Upload(ctx, pair.host.url, name+".csv", []byte("id,x\n1,2\n"),
			fields); err != nil {
			return fmt.Errorf("failed to upload %s: %w", name, err)
		}
		job := followJob(flow, followTask{name: "prepare", guest: flow, host: flow})
		if err := pair.run(ctx, submission{id: id, document: job}); err != nil {
			return err
		}
	}

	viewer, data, approver := identity.Viewer, identity.Data, identity.Approver
	if made.Tokens.Risk, err = pair.host.token(ctx, "rosa", viewer.In("risk"), data.In("risk"),
		approver.In("risk")); err != nil {
		return err
	}
	made.Tokens.Both, err = pair.host.token(ctx, "ben", viewer.In("risk"), viewer.In("ads"), data.In("risk"),
		data.In("ads"), approver.In("ads"))
	return err
}
