-- Condition of a branch: the requests of any of these models. IS TRUE keeps it a filter: as a join, it would lose
-- the index's order.
(model_id IN (SELECT m.id FROM gateway_schema.models AS m WHERE m.id = ANY ({models}))) IS TRUE
