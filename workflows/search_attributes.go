package workflows

import (
	"go.temporal.io/sdk/temporal"

	"hutong/bfia"
)

// Search attributes of a job's workflows.
var (
	AttributeJobID  = temporal.NewSearchAttributeKeyKeyword("HutongJobID")
	AttributeFlowID = temporal.NewSearchAttributeKeyKeyword("HutongFlowID")
	AttributeNodeID = temporal.NewSearchAttributeKeyKeyword("HutongNodeID")
	AttributeRoles  = temporal.NewSearchAttributeKeyKeywordList("HutongRoles")
	AttributeState  = temporal.NewSearchAttributeKeyKeyword("HutongState")
)

func attributes(plan *bfia.Plan, node string, roles []string, state bfia.JobState) temporal.SearchAttributes {
	return temporal.NewSearchAttributes(AttributeJobID.ValueSet(plan.JobID),
		AttributeFlowID.ValueSet(plan.FlowID), AttributeNodeID.ValueSet(node), AttributeRoles.ValueSet(roles),
		AttributeState.ValueSet(string(state)))
}

// SearchAttributes returns the search attributes with which the workflow starts.
func (in SchedulerJobInput) SearchAttributes() temporal.SearchAttributes {
	return attributes(&in.Plan, in.Node, []string{"scheduler"}, bfia.JobPending)
}

// SearchAttributes returns the search attributes with which the workflow starts.
func (in ParticipantJobInput) SearchAttributes() temporal.SearchAttributes {
	return attributes(&in.Plan, in.Node, in.Roles, bfia.JobReady)
}
