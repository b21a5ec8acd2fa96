// The document of a job (part 2, 6.7).

export interface PortRef {
  type: string;
  key: string;
}

export interface JobDocument {
  job_id?: string | null;
  flow_id?: string | null;
  old_job_id?: string | null;
  dag: {
    version: string;
    components: {
      name: string;
      componentName: string;
      provider: string;
      version: string;
      input: PortRef[] | null;
      output: PortRef[] | null;
    }[];
  };
  config: {
    version: string;
    initiator: { role: string; node_id: string };
    role: Record<string, string[]>;
    job_params: Record<string, unknown>;
    task_params: Record<string, unknown>;
  };
}

/** Warning is what a party has to say of a job that it accepts. */
export interface Warning {
  field?: string;
  task?: string;
  role?: string;
  parameter?: string;
  message: string;
}

/** CheckResult is what this party and its partners say of a job before it is sent. */
export interface CheckResult {
  warnings?: Warning[];
  parties?: { node_id: string; accepts: boolean; reason?: string; warnings?: Warning[] }[];
}
