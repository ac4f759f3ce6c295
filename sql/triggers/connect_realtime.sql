-- Makes the triggers that send events to Supabase's Realtime, where the database has it.
select pgflow.connect_realtime();
